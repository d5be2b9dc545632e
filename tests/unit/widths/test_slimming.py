"""Members: how wide every layer gets, what is pinned, and where gamma is kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from packify import PackError, Rule, Spec
from packify.capture.graphs import record_graphs
from packify.ops.table import RULES
from packify.widths.slimming import Member, slim
from tests.models import images, interfaces, sequences


def _slim(model: nn.Module, x: object, alpha: float = 1, members: int = 2, **more: object) -> Member:
    return slim(record_graphs(model, x), Spec(alpha, members, **more), RULES)


def _shapes(member: Member) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in member.root.named_parameters()}


def test_inputs_and_classes_are_pinned_and_hidden_widths_halve() -> None:
    shapes = _shapes(_slim(images.UNet(), torch.randn(2, 3, 8, 8)))
    assert shapes["down1.0.weight"] == (2, 3, 3, 3)
    assert shapes["up2.weight"] == (8, 4, 2, 2)
    assert shapes["dec2.0.weight"] == (4, 8, 3, 3)
    assert shapes["out.weight"] == (3, 2, 1, 1)


def test_everything_hidden_halves_in_a_transformer() -> None:
    shapes = _shapes(_slim(sequences.Vit(), torch.randn(2, 3, 8, 8)))
    assert shapes["pos"] == (1, 6, 6)
    assert shapes["cls"] == (1, 1, 6)
    assert shapes["gamma1"] == (6,)
    assert shapes["qkv.weight"] == (18, 6)
    assert shapes["head.weight"] == (3, 6)


def test_flattened_maps() -> None:
    shapes = _shapes(_slim(images.LeNet(), torch.randn(2, 1, 24, 24)))
    assert shapes["fc1.weight"] == (12, 8 * 16)


@pytest.mark.parametrize(("heads", "count"), [("scale", 1), ("keep", 2)])
def test_bias_tables_follow_the_heads(heads: str, count: int) -> None:
    shapes = _shapes(_slim(sequences.Window(), torch.randn(2, 3, 4, 4), heads=heads))
    assert shapes["table"] == (9, count)
    assert shapes["qkv.weight"] == (12, 4)


def test_token_counts_stay() -> None:
    shapes = _shapes(_slim(sequences.Mixer(), torch.randn(2, 6, 5)))
    assert shapes["tokens.0.weight"] == (5, 6)
    assert shapes["tokens.2.weight"] == (6, 5)


def test_recurrent_layers_shrink() -> None:
    shapes = _shapes(_slim(sequences.Recurrent("lstm"), torch.randn(2, 4, 5)))
    assert shapes["rnn.weight_hh_l0"] == (24, 6)
    assert shapes["head.weight"] == (3, 6)


def test_multi_head_attention_modules_shrink() -> None:
    shapes = _shapes(_slim(sequences.Attending(), torch.randn(2, 4, 5)))
    assert shapes["attention.in_proj_weight"] == (18, 6)
    assert shapes["attention.out_proj.weight"] == (6, 6)
    shapes = _shapes(_slim(sequences.Encoder(dropout=0.0), torch.randn(2, 5, 6)))
    assert shapes["encoder.layers.0.linear1.weight"] == (12, 8)


@pytest.mark.parametrize(("alpha", "members", "width"), [(2, 3, 11), (1.5, 4, 6), (4, 1, 64), (3, 3, 16), (0.1, 4, 1)])
def test_widths_that_are_not_whole(alpha: float, members: int, width: int) -> None:
    member = _slim(interfaces.Outputs("tuple"), torch.randn(2, 5), alpha, members)
    assert _shapes(member)["trunk.weight"] == (width, 5)
    exact = alpha * 16 / members == width and alpha * 8 / members == int(alpha * 8 / members)
    assert bool(member.rounded) != exact


def test_round_to() -> None:
    assert _shapes(_slim(interfaces.Outputs("tuple"), torch.randn(2, 5), 1.5, 2, round_to=8))["trunk.weight"] == (16, 5)


def test_a_residual_to_the_input_pins_its_layers_and_says_so() -> None:
    class Back(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.down(self.up(x).relu())

    member = _slim(Back(), torch.randn(2, 6))
    assert _shapes(member)["down.weight"] == (6, 6)
    assert _shapes(member)["up.weight"] == (6, 6)
    assert any("down" in note.node for note in member.pins)


def test_a_layer_width_is_reported_for_every_layer() -> None:
    model = images.UNet()
    layers = {layer.name: layer for layer in _slim(model, torch.randn(2, 3, 8, 8)).layers}
    wanted = {name for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))}
    assert wanted <= set(layers)
    assert (layers["dec2.0"].reference_in, layers["dec2.0"].member_in, layers["dec2.0"].member_out) == (16, 8, 4)


def test_members_run() -> None:
    member = _slim(interfaces.Wide(), torch.randn(2, 3, 8, 8), 2, 4, gamma=2)
    gammas = {layer.name: layer.gamma for layer in member.layers}
    assert gammas["conv1"] == 1
    assert gammas["head"] == 1
    assert gammas["fc"] == 2
    assert all(node.meta["val"].is_meta for node in member.graphs["eval"].nodes if isinstance(node.meta.get("val"), torch.Tensor))


def test_depthwise_convs_follow_and_grouped_convs_divide() -> None:
    shapes = _shapes(_slim(images.Shuffles(), torch.randn(2, 3, 4, 4), 1.5, 3))
    assert shapes["depthwise.weight"][1] == 1
    assert shapes["grouped.weight"][0] % 2 == 0


def test_positions_that_are_read_one_by_one_pin_what_they_are_read_from() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(5, 8), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x)[:, [0, 3, 5]])

    member = _slim(Odd(), torch.randn(2, 5))
    assert _shapes(member)["one.weight"] == (8, 5)
    assert any(note.node == "one" and "single positions" in note.why for note in member.pins)


def test_errors_name_the_node() -> None:
    rule = Rule("own", lambda propagation, *args, **kwargs: 1 / 0)
    with pytest.raises(PackError) as caught:
        slim(record_graphs(images.LeNet(), torch.randn(2, 1, 24, 24)), Spec(1, 2), {**RULES, "tanh": rule})
    assert "images.py" in str(caught.value)


class _FixedOperators(nn.Module):
    """A colour shift that is never trained before, and an expected value over 16 bins behind what is."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.stem, self.bins = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 1)
        self.expected = nn.Conv2d(16, 1, 1, bias=False).requires_grad_(False)
        self.shift.requires_grad_(False)
        with torch.no_grad():
            self.shift.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
            self.expected.weight.copy_(torch.arange(16.0).view(1, 16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bins(self.stem(self.shift(x))).flatten(2)
        return self.expected(y.view(y.shape[0], 4, 16, -1).transpose(1, 2).softmax(1)).flatten(1, 2)


def test_frozen_tables_stay_whole() -> None:
    member = _slim(_FixedOperators(), torch.randn(2, 3, 8, 8))
    shapes = _shapes(member)
    assert shapes["shift.weight"] == (3, 3, 1, 1)
    assert shapes["stem.weight"] == (16, 3, 3, 3)
    assert shapes["bins.weight"] == (64, 16, 1, 1)
    assert shapes["expected.weight"] == (1, 16, 1, 1)
    assert any("frozen table at expected" in note.why for note in member.pins)


def test_frozen_layers_that_were_drawn_are_slimmed() -> None:
    model = nn.Sequential(nn.Linear(8, 32).requires_grad_(False), nn.ReLU(), nn.Linear(32, 5))
    assert _shapes(_slim(model, torch.randn(2, 8)))["0.weight"] == (16, 8)
