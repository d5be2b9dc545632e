from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from packify.nn.tree import Scope, build_tree, is_plain_layer, leaf_names, resized, shallow_copy, state_sizes


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.again = self.a
        self.register_buffer("scale", torch.ones(2), persistent=False)
        self.nothing = None

    def forward(self, x: Tensor) -> Tensor:
        return x


def _empty(name: str, tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor)


def test_names_and_ties_are_the_references() -> None:
    reference = nn.Sequential(Own(), nn.BatchNorm1d(3))
    reference[0].a.weight.requires_grad_(False)
    tree = build_tree(reference, _empty)
    assert [name for name, _ in tree.named_parameters()] == [name for name, _ in reference.named_parameters()]
    assert tree.state_dict().keys() == reference.state_dict().keys()
    own: Any = tree.get_submodule("0")
    assert own.again is own.a
    assert own.b.weight is own.a.weight
    assert not own.a.weight.requires_grad
    assert not own.a.weight.any()
    assert bool(reference[0].a.weight.any())


def test_no_users_code_is_in_the_tree() -> None:
    tree = build_tree(nn.Sequential(Own(), nn.ReLU()), _empty)
    own: Any = tree.get_submodule("0")
    assert type(own) is Scope
    assert type(tree.get_submodule("1")) is nn.ReLU
    assert "Own(" in repr(tree)
    with pytest.raises(RuntimeError, match="this Own is a part of a packed network"):
        own(torch.zeros(2, 3))


def test_scopes_are_indexed_like_containers() -> None:
    tree: Any = build_tree(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)), _empty)
    assert tree[1].out_features == tree["1"].out_features == 4
    assert len(tree) == 2
    assert [layer.out_features for layer in tree] == [3, 4]
    assert build_tree(nn.Sequential(), _empty)


def test_leaves_come_whole() -> None:
    reference = nn.Sequential(Own(), nn.Sequential(Own()))
    tree = build_tree(reference, _empty, (Own,))
    assert type(tree.get_submodule("1.0")) is Own
    assert leaf_names(tree, (Own,)) == {"0", "0.a", "0.b", "1.0", "1.0.a", "1.0.b"}


def test_plain_layers_are_torchs_own_without_children() -> None:
    assert is_plain_layer(nn.Linear(2, 2))
    assert not is_plain_layer(Own())
    assert not is_plain_layer(nn.MultiheadAttention(4, 2))
    assert not is_plain_layer(nn.Sequential())


def test_a_shallow_copy_has_settings_and_no_tensors_or_hooks() -> None:
    layer = nn.Conv2d(2, 4, 3, padding=1)
    layer.register_forward_hook(lambda *_: None)
    copied = shallow_copy(layer)
    assert (copied.padding, copied._parameters, len(copied._forward_hooks)) == ((1, 1), {}, 0)
    assert len(layer._forward_hooks) == 1


@pytest.mark.parametrize(
    ("layer", "smaller", "attributes"),
    [
        (nn.Linear(6, 8), {"weight": (4, 3), "bias": (4,)}, {"in_features": 3, "out_features": 4}),
        (nn.Conv2d(4, 8, 3, groups=2), {"weight": (4, 1, 3, 3)}, {"in_channels": 2, "out_channels": 4, "groups": 2}),
        (nn.ConvTranspose2d(4, 8, 3), {"weight": (2, 4, 3, 3)}, {"in_channels": 2, "out_channels": 4}),
        (nn.BatchNorm2d(8), {"weight": (4,), "running_mean": (4,)}, {"num_features": 4}),
        (nn.LayerNorm(8), {"weight": (4,)}, {"normalized_shape": (4,)}),
        (nn.GroupNorm(8, 8), {"weight": (4,)}, {"num_channels": 4, "num_groups": 4}),
        (nn.GroupNorm(2, 8), {"weight": (4,)}, {"num_channels": 4, "num_groups": 2}),
        (nn.Embedding(9, 8), {"weight": (9, 4)}, {"num_embeddings": 9, "embedding_dim": 4}),
    ],
)
def test_sizes_follow_the_tensors(layer: nn.Module, smaller: dict[str, tuple[int, ...]], attributes: dict[str, Any]) -> None:
    for name, shape in smaller.items():
        new = torch.zeros(shape)
        if name in layer._parameters:
            layer._parameters[name] = nn.Parameter(new)
        else:
            layer._buffers[name] = new
    state_sizes(layer)
    assert {name: getattr(layer, name) for name in attributes} == attributes


def test_recurrent_layers_run_at_their_new_sizes() -> None:
    small, layer = nn.LSTM(3, 4, bidirectional=True), nn.LSTM(6, 8, bidirectional=True)
    for name, tensor in small.named_parameters():
        layer._parameters[name] = nn.Parameter(tensor.detach().clone())
    state_sizes(layer)
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(layer(x)[0], small(x)[0])


def test_tables_are_cut_or_repeated() -> None:
    table = torch.arange(6).view(2, 3)
    assert resized(table, (1, 2)).tolist() == [[0, 1]]
    assert resized(table, (3, 4)).tolist() == [[0, 1, 2, 0], [3, 4, 5, 3], [0, 1, 2, 0]]
