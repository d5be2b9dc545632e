"""One result, whatever the strategy: over families and over generated networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import packify
from tests.laws.families import PAIRS, Pair
from tests.laws.strategies import check_strategies
from tests.models.generated import IMAGE_BLOCKS, TOKEN_BLOCKS, Images, Tokens

_calm = settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), print_blob=False)
_spec = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([1, 1.5, 2]),
        "num_estimators": st.integers(1, 3),
        "gamma": st.integers(1, 2),
        "gamma_policy": st.sampled_from(["paper", "uniform"]),
        "min_channels_per_group": st.just(1),
        "inputs": st.sampled_from(["shared", "shared", "independent"]),
    }
)


def _check(model: nn.Module, inputs: Any, spec: dict[str, Any]) -> None:
    try:
        packed = packify.pack(model, inputs, **spec)
    except packify.SpecError as error:
        if "gamma" not in str(error):
            raise
        return  # no layer can be cut into so many groups
    check_strategies(packed, inputs)


@pytest.mark.slow
@_calm
@given(
    blocks=st.lists(st.tuples(st.sampled_from(sorted(IMAGE_BLOCKS)), st.integers(0, 11)), min_size=1, max_size=3),
    dense=st.booleans(),
    spec=_spec,
)
def test_image_networks_have_one_result(blocks: list[tuple[str, int]], dense: bool, spec: dict[str, Any]) -> None:
    torch.manual_seed(0)
    _check(Images(blocks, 8, dense), torch.randn(3, 3, 7, 7), spec)


@pytest.mark.slow
@_calm
@given(
    blocks=st.lists(st.tuples(st.sampled_from(sorted(TOKEN_BLOCKS)), st.integers(0, 11)), min_size=1, max_size=3),
    outputs=st.sampled_from(["one", "tuple", "dict"]),
    second=st.booleans(),
    spec=_spec,
)
def test_token_networks_have_one_result(blocks: list[tuple[str, int]], outputs: str, second: bool, spec: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 6, 5)
    _check(Tokens(blocks, 8, outputs, second), (x, torch.randn(3, 4)) if second else x, spec)


@pytest.mark.parametrize("name", sorted(IMAGE_BLOCKS))
def test_every_image_block_has_one_result(name: str) -> None:
    torch.manual_seed(0)
    _check(Images([(name, 3)], 8), torch.randn(2, 3, 8, 8), {"alpha": 2, "num_estimators": 2})


@pytest.mark.parametrize("name", sorted(TOKEN_BLOCKS))
def test_every_token_block_has_one_result(name: str) -> None:
    torch.manual_seed(0)
    _check(Tokens([(name, 3)], 8), torch.randn(2, 6, 5), {"alpha": 2, "num_estimators": 2})


def _family(pair: Pair) -> None:
    _check(pair.build(pair.small), torch.randn(2, *pair.size), {"alpha": 1, "num_estimators": 2, "heads": pair.heads})


_QUICK = [pair for pair in PAIRS if pair.large in ("vit_base_patch16_224", "convnext_large")]
_MORE = (
    "cait_s24_224 xcit_small_12_p16_224 pvt_v2_b1 mobilevitv2_100 convnextv2_large mambaout_tiny eva02_small_patch14_224 twins_svt_large"
).split()


@pytest.mark.slow
@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("pair", _QUICK, ids=str)
def test_families_have_one_result(pair: Pair) -> None:
    _family(pair)


@pytest.mark.families
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair.large in _MORE], ids=str)
def test_every_family_has_one_result(pair: Pair) -> None:
    _family(pair)
