"""The laws over networks of random blocks at random (alpha, M, gamma)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

import packify
from tests.laws import checks
from tests.models.generated import IMAGE_BLOCKS, TOKEN_BLOCKS, Images, Tokens


def _calm(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )


_image_blocks = st.lists(st.tuples(st.sampled_from(sorted(IMAGE_BLOCKS)), st.integers(0, 11)), min_size=1, max_size=4)
# Branches make one and a half or two and a half times the width: after two of them half a width may not be a whole number any more.
_halvable = _image_blocks.filter(lambda blocks: sum(name == "branches" for name, _ in blocks) <= 2)
_token_blocks = st.lists(st.tuples(st.sampled_from(sorted(TOKEN_BLOCKS)), st.integers(0, 11)), min_size=1, max_size=4)
_specs = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([0.5, 1, 1.5, 2, 3]),
        "num_estimators": st.integers(1, 4),
        "gamma": st.integers(1, 3),
        "gamma_policy": st.sampled_from(["paper", "paper", "uniform"]),
        "min_channels_per_group": st.sampled_from([1, 2, 64]),
        "round_to": st.sampled_from([1, 1, 2, 4]),
        "inputs": st.sampled_from(["shared", "shared", "independent"]),
    }
)


def _check(model: nn.Module, inputs: Any, spec: dict[str, Any]) -> None:
    try:
        with checks.untouched(model):
            packed = packify.pack(model, inputs, **spec)
    except packify.SpecError as error:
        if "gamma" not in str(error):
            raise
        return  # no layer can be cut into so many groups
    checks.check_all(packed, model, inputs)


_images = {"blocks": _image_blocks, "width": st.sampled_from([4, 6, 8]), "dense": st.booleans(), "spec": _specs}
_tokens = {
    "blocks": _token_blocks,
    "width": st.sampled_from([4, 8, 12]),
    "outputs": st.sampled_from(["one", "tuple", "dict"]),
    "second": st.booleans(),
    "spec": _specs,
}


@pytest.mark.slow
@_calm(8)
@given(**_images)
def test_laws_of_image_networks(blocks: list[tuple[str, int]], width: int, dense: bool, spec: dict[str, Any]) -> None:
    torch.manual_seed(0)
    _check(Images(blocks, width, dense), torch.randn(3, 3, 7, 7), spec)


# Branches make odd widths of even ones, unless they take care, and blocks with two groups cannot be built at those.
_ODD = {
    "blocks": [("branches", 1), ("plain", 11), ("layer normed", 7), ("grouped", 4)],
    "width": 6,
    "dense": False,
    "spec": {
        "alpha": 0.5,
        "num_estimators": 2,
        "gamma": 3,
        "gamma_policy": "uniform",
        "min_channels_per_group": 2,
        "round_to": 2,
        "inputs": "shared",
    },
}


@pytest.mark.slow
@_calm(40)
@example(**_ODD)
@given(**_images)
def test_laws_of_many_image_networks(blocks: list[tuple[str, int]], width: int, dense: bool, spec: dict[str, Any]) -> None:
    torch.manual_seed(0)
    _check(Images(blocks, width, dense), torch.randn(3, 3, 7, 7), spec)


@pytest.mark.slow
@_calm(40)
@given(**_tokens)
def test_laws_of_many_token_networks(blocks: list[tuple[str, int]], width: int, outputs: str, second: bool, spec: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 6, 5)
    _check(Tokens(blocks, width, outputs, second), (x, torch.randn(3, 4)) if second else x, spec)


@pytest.mark.slow
@_calm(8)
@given(**_tokens)
def test_laws_of_token_networks(blocks: list[tuple[str, int]], width: int, outputs: str, second: bool, spec: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 6, 5)
    _check(Tokens(blocks, width, outputs, second), (x, torch.randn(3, 4)) if second else x, spec)


@pytest.mark.slow
@_calm(10)
@given(blocks=_halvable, width=st.sampled_from([8, 16]), dense=st.booleans(), members=st.integers(1, 3))
def test_image_members_are_the_users_network_at_half_the_width(
    blocks: list[tuple[str, int]], width: int, dense: bool, members: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 8, 8)
    packed = packify.pack(Images(blocks, 2 * width, dense), x, alpha=members / 2, num_estimators=members)
    checks.check_same_function(packed, lambda: Images(blocks, width, dense), x)


@pytest.mark.slow
@_calm(10)
@given(blocks=_token_blocks, width=st.sampled_from([4, 8]), members=st.integers(1, 3), second=st.booleans())
def test_token_members_are_the_users_network_at_half_the_width(
    blocks: list[tuple[str, int]], width: int, members: int, second: bool
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 6, 5)
    inputs = (x, torch.randn(3, 4)) if second else x
    packed = packify.pack(Tokens(blocks, 2 * width, "tuple", second), inputs, alpha=members / 2, num_estimators=members)
    checks.check_same_function(packed, lambda: Tokens(blocks, width, "tuple", second), inputs)


@pytest.mark.parametrize("name", sorted(IMAGE_BLOCKS))
@pytest.mark.parametrize("kind", range(4))
def test_every_image_block_at_half_the_width(name: str, kind: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    packed = packify.pack(Images([(name, kind)], 16), x, alpha=1, num_estimators=2)
    checks.check_same_function(packed, lambda: Images([(name, kind)], 8), x)


@pytest.mark.parametrize("name", sorted(TOKEN_BLOCKS))
@pytest.mark.parametrize("kind", range(5))
def test_every_token_block_at_half_the_width(name: str, kind: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5)
    packed = packify.pack(Tokens([(name, kind)], 16), x, alpha=1, num_estimators=2)
    checks.check_same_function(packed, lambda: Tokens([(name, kind)], 8), x)
