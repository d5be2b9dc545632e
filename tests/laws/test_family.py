"""Law 11: where a family of architectures has a next size down, the member at that ratio is that network."""

from __future__ import annotations

import pytest
import torch

import packify
from tests.laws.families import PAIRS, Pair

QUICK = PAIRS[:2] + tuple(
    pair for pair in PAIRS if pair.large in ("convnext_large", "swin_large_patch4_window7_224", "cait_s24_224", "pvt_v2_b1")
)


def _checked(pair: Pair) -> None:
    large, small = pair.build(pair.large), pair.build(pair.small)
    x = torch.randn(2, *pair.size)
    packed = packify.pack(large, x, alpha=pair.alpha, num_estimators=pair.members, heads=pair.heads, unused="keep")
    member = packed.extract(0)
    member.load_state_dict(small.state_dict(), strict=True)
    with torch.no_grad():
        found, wanted = member.eval()(x), small(x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.slow_cases("swin", "convnext", "pvt_v2", "vit_base", "cait_s24_224 -> cait_xs24_384", "cait_s24_224 -> cait_xxs24_224")
@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("pair", QUICK, ids=str)
def test_a_member_is_the_next_size(pair: Pair) -> None:
    _checked(pair)


@pytest.mark.families
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair not in QUICK], ids=str)
def test_a_member_is_the_next_size_of_every_family(pair: Pair) -> None:
    _checked(pair)


@pytest.mark.slow_cases("vit_base_patch16_224 -> vit_small_patch16_224", "vit_small_patch16_224 -> vit_tiny_patch16_224")
@pytest.mark.parametrize("pair", [PAIRS[0], PAIRS[1]], ids=str)
def test_an_ensemble_of_the_next_size_has_the_digest_of_the_packed_network(pair: Pair) -> None:
    """So a Packed-Ensemble of a large network can start from trained networks of the next size."""
    members = [pair.build(pair.small) for _ in range(2)]
    x = torch.randn(2, *pair.size)
    packed = packify.pack(pair.build(pair.large), x, alpha=1, num_estimators=2)
    joined = packify.pack_members(members, x)
    assert joined.digest == packed.digest
    packed.load_state_dict(joined.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(packed.eval().members(x), joined.eval().members(x))
