"""Rows of layers, products, norms and axes: that none is forgotten, and that their arguments are torch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from packify.ops.layer_rows import LAYERS
from packify.ops.rule import Rule

_ROWS = dict(LAYERS)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_of_every_rank_are_layers(rank: int) -> None:
    for name in (f"conv{rank}d", f"conv_transpose{rank}d"):
        rule = _ROWS[name]
        assert rule.traits == {"layer"}
        assert None not in (rule.widths, rule.pack, rule.refit, rule.mult_adds)
    assert {f"BatchNorm{rank}d", f"max_pool{rank}d", f"adaptive_avg_pool{rank}d"} <= _ROWS.keys()


def test_what_multiplies_by_a_weight_counts_mult_adds() -> None:
    for name, rule in _ROWS.items():
        if rule.traits and (rule.traits & {"layer", "weighted"} or ("product" in rule.traits and name != "embedding")):
            assert rule.mult_adds is not None, name


def _names(rule: Rule) -> list[str]:
    return [name for name in rule.signature.names if not name.startswith("*")]


@pytest.mark.parametrize(
    ("name", "function", "values"),
    [
        ("conv2d", F.conv2d, {"input": torch.ones(1, 2, 4, 4), "weight": torch.ones(4, 1, 3, 3), "padding": 1, "groups": 2}),
        (
            "conv_transpose2d",
            F.conv_transpose2d,
            {"input": torch.ones(1, 2, 4, 4), "weight": torch.ones(2, 1, 3, 3), "stride": 2, "groups": 2},
        ),
        ("bilinear", F.bilinear, {"input1": torch.ones(1, 2), "input2": torch.ones(1, 3), "weight": torch.ones(4, 2, 3)}),
        ("layer_norm", F.layer_norm, {"input": torch.ones(1, 2), "normalized_shape": (2,)}),
        ("rms_norm", F.rms_norm, {"input": torch.ones(1, 2), "normalized_shape": (2,)}),
        ("group_norm", F.group_norm, {"input": torch.ones(1, 4), "num_groups": 2}),
        ("interpolate", F.interpolate, {"input": torch.ones(1, 1, 2), "scale_factor": 2.0}),
        ("grid_sample", F.grid_sample, {"input": torch.ones(1, 1, 2, 2), "grid": torch.zeros(1, 3, 3, 2), "align_corners": False}),
        ("softmax", torch.softmax, {"input": torch.ones(2, 3), "dim": 1}),
        ("topk", torch.topk, {"input": torch.ones(2, 3), "k": 2, "dim": 0}),
        ("addmm", torch.addmm, {"input": torch.ones(3), "mat1": torch.ones(2, 4), "mat2": torch.ones(4, 3), "beta": 2}),
    ],
)
def test_arguments_go_by_torchs_names(name: str, function: object, values: dict[str, object]) -> None:
    assert values.keys() <= set(_names(_ROWS[name]))
    function(**values)  # type: ignore[operator] # torch takes them by these names


def test_modules_that_stand_in_no_graph_of_their_own_have_no_rules_of_widths() -> None:
    for name in ("GroupNorm", "LayerNorm", "Embedding"):
        assert _ROWS[name].widths is None
        assert _ROWS[name].mult_adds is not None
