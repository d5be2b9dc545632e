"""What heads of attention change in a member of every family: nothing but the tables that hold something for each head."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from packify.capture.graphs import record_graphs
from packify.core.spec import Spec
from packify.ops.table import RULES
from packify.widths.slimming import Slimmer
from tests.zoo import numeric
from tests.zoo.architectures import build
from tests.zoo.outcome import Outcome

_FAMILIES = numeric.installed_representatives()
# The last names of tables: position biases, scales and temperatures of heads, what mixes heads, and the last layer of what makes biases.
_TABLES = (
    "attention_biases", "bias_table", "rel_pos_bias", "logit_scale", "temperature", "proj_l.weight", "proj_l.bias", "proj_w.weight",
    "proj_w.bias", "cpb_mlp.2.weight", "cpb_mlp.fc2.weight", "meta_mlp.fc2.weight", "meta_mlp.fc2.bias", "rel_pos.mlp.fc2.weight",
    "rel_pos.mlp.fc2.bias", "talking_head1.weight", "talking_head1.bias", "talking_head2.weight", "talking_head2.bias", "gating_param",
    "pos_proj.weight", "pos_proj.bias", "rel_pos_h", "rel_pos_w",
)  # fmt: skip


@pytest.mark.families
@pytest.mark.parametrize("row", _FAMILIES, ids=lambda row: row.label)
def test_a_member_has_the_same_parameters_but_for_tables(row: Outcome) -> None:
    built = build(row.architecture)
    slimmer = Slimmer(record_graphs(built.model, built.example_inputs), RULES)
    spec = Spec(2, 4)
    scaled, kept = (_shapes(slimmer.member(replace(spec, heads=heads)).root) for heads in ("scale", "keep"))
    differing = [name for name, shape in scaled.items() if shape != kept[name]]
    assert [name for name in differing if not name.endswith(_TABLES)] == []


def _shapes(root: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in root.named_parameters()}
