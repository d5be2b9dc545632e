from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

import packify
from packify.execution.formats import format_of, has_inner_convs, runs_in_channels_last, to_format, wants_channels_last
from tests.unit.execution.networks import convs, image, packed_convs


def _packed(model: nn.Module, x: torch.Tensor) -> packify.PackedNetwork:
    return packify.pack(model, x, alpha=2, num_estimators=2)


def test_convs_of_images_get_channels_last_and_the_report_says_so() -> None:
    packed = packed_convs()
    assert format_of(packed) == "channels_last"
    assert "channels last" in str(packed.report)
    assert packed(
        image(),
    ).shape == (4 * 4, 5)


def test_a_reference_in_channels_last_keeps_it() -> None:
    class Depthwise(nn.Sequential):
        """Most of the work is in linear layers, so nothing else asks for channels last."""

    torch.manual_seed(0)
    model = Depthwise(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2000), nn.Linear(2000, 2000))
    assert format_of(_packed(model, image())) == "contiguous"
    assert format_of(_packed(model.to(memory_format=torch.channels_last), image())) == "channels_last"


def test_one_member_lies_as_the_reference() -> None:
    assert format_of(packify.pack(convs(), image(), alpha=1, num_estimators=1)) == "contiguous"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wants"), [("resnet18", True), ("vit_tiny_patch16_224", False)])
def test_networks_of_timm(name: str, wants: bool) -> None:
    packed = _packed(timm.create_model(name, num_classes=5), torch.randn(1, 3, 224, 224))
    assert wants_channels_last(packed) == has_inner_convs(packed) == wants
    assert (format_of(packed) == "channels_last") == wants


def test_convs_between_layers_that_read_channels_last_want_it() -> None:
    class Mixer(nn.Module):
        def __init__(self, order: tuple[int, ...]) -> None:
            super().__init__()
            self.stem, self.deep, self.mlp, self.order = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Linear(8, 8), order

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mlp(self.deep(self.stem(x)).permute(*self.order).flatten(1, 2)).mean(1)

    model = Mixer((0, 2, 3, 1))
    assert not wants_channels_last(_packed(model, image()))  # one of two convs
    model.stem = nn.Conv2d(3, 8, 2, stride=2)
    assert wants_channels_last(_packed(model, image()))
    model.order = (0, 3, 2, 1)
    assert not wants_channels_last(_packed(model, image()))


def test_code_that_calls_view_stays_contiguous() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8 * 16, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.two(self.one(x))
            return self.head(y.view(y.shape[0], -1))

    packed = _packed(Viewing(), image())
    assert wants_channels_last(packed)
    assert runs_in_channels_last(packed) == (format_of(packed) == "channels_last")
    for name in ("contiguous", "channels_last"):
        to_format(packed, name)
        packed.strategy = "in turn"
        found = packed(image())
        packed.strategy = "grouped"
        torch.testing.assert_close(found, packed(image()))


def test_the_change_keeps_numbers_parameters_and_gradients() -> None:
    packed = packed_convs().train()
    packed.members(image()).sum().backward()
    before = {name: (parameter, parameter.detach().clone(), parameter.grad) for name, parameter in packed.named_parameters()}
    for name in ("contiguous", "channels_last", "contiguous"):
        to_format(packed, name)
        assert format_of(packed) == name
    for name, parameter in packed.named_parameters():
        own, value, grad = before[name]
        assert parameter is own
        assert torch.equal(parameter, value)
        assert parameter.grad is grad


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(packify.SpecError, match="channels_last"):
        to_format(packed_convs(), "last")


def test_outputs_do_not_depend_on_the_format() -> None:
    packed = packed_convs().double().eval()
    other = copy.deepcopy(packed)
    to_format(other, "contiguous")
    torch.testing.assert_close(packed.members(image().double()), other.members(image().double()))


def test_parts_and_copies_keep_the_format() -> None:
    packed = packed_convs()
    assert format_of(packify.part(packed, [0, 2])) == "channels_last"
    assert format_of(copy.deepcopy(packed)) == "channels_last"
    to_format(packed, "contiguous")
    assert format_of(packify.part(packed, [0, 2])) == "contiguous"
