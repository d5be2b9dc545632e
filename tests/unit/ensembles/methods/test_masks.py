from __future__ import annotations

import pytest
import torch

from packify.core.errors import SpecError
from packify.ensembles.methods.masks import draw_masks, kept_channels


@pytest.mark.parametrize("channels", [10, 11, 16, 37, 64, 300, 1024])
@pytest.mark.parametrize("members", [2, 4, 8])
@pytest.mark.parametrize("scale", [1.0, 1.7, 2.0, 4.0, 6.0])
def test_masks_have_equally_many_ones_and_leave_no_channel_out(channels: int, members: int, scale: float) -> None:
    ones = kept_channels(channels, members, scale)
    if ones * members < channels:
        with pytest.raises(SpecError, match="too rare"):
            draw_masks(channels, members, scale, 0, "fc")
        return
    masks = draw_masks(channels, members, scale, 0, "fc")
    assert masks.shape == (members, channels)
    assert masks.sum(1).tolist() == [ones] * members
    assert bool(masks.any(0).all())
    assert torch.equal(masks, draw_masks(channels, members, scale, 0, "fc"))
    assert ones == channels or not torch.equal(masks, draw_masks(channels, members, scale, 1, "fc"))


@pytest.mark.parametrize(("channels", "scale", "where"), [(9, 2.0, "masks of fc"), (16, 0.5, "scale"), (16, 6.5, "scale")])
def test_what_cannot_be_drawn_is_one_clear_error(channels: int, scale: float, where: str) -> None:
    with pytest.raises(SpecError) as caught:
        draw_masks(channels, 4, scale, 0, "fc")
    assert caught.value.where == where
    assert caught.value.fix
