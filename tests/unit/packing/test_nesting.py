"""Networks as trees of blocks: the same numbers as the flat graph, the same calls as the reference."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, fx, nn

import packify
from packify.core import nested
from packify.nn.block import Block
from packify.nn.flattening import flat_again
from packify.nn.ports import ports_of
from packify.nn.writes import store
from packify.packing.frames import is_repeatable
from packify.packing.nesting import nest

_SMALL: dict[str, Any] = {
    "resnet": lambda: (torchvision.models.resnet18(num_classes=5), (2, 3, 32, 32)),
    "vit": lambda: (timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5), (2, 3, 32, 32)),
    "swin": lambda: (
        timm.create_model("swin_tiny_patch4_window7_224", img_size=56, depths=(2, 2), num_heads=(2, 4), num_classes=5),
        (2, 3, 56, 56),
    ),
    "convnext": lambda: (timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=5), (2, 3, 64, 64)),
    "xcit": lambda: (timm.create_model("xcit_nano_12_p16_224", img_size=32, depth=2, num_classes=5), (2, 3, 32, 32)),
    "eva": lambda: (timm.create_model("eva02_tiny_patch14_224", img_size=28, depth=2, num_classes=5), (2, 3, 28, 28)),
    "edgenext": lambda: (timm.create_model("edgenext_xx_small", num_classes=5), (2, 3, 64, 64)),
}


def _packed(name: str) -> tuple[nn.Module, packify.PackedNetwork, packify.Recording, Tensor]:
    torch.manual_seed(0)
    model, shape = _SMALL[name]()
    x = torch.randn(shape)
    recording = packify.record(model, x)
    return model, recording.pack(alpha=2, num_estimators=2), recording, x


def same_as_flat(network: packify.PackedNetwork | packify.MemberNetwork, inputs: Any) -> None:
    """Blocks compute what the flat graph does, bit for bit: outputs, gradients, buffers, in both modes."""
    for mode in ("eval", "train"):
        one, two = copy.deepcopy(network), copy.deepcopy(network)
        for each in (one, two):
            each.train(mode == "train")
            if isinstance(each, packify.PackedNetwork):
                each.strategy = "grouped"  # its modules are called
        torch.manual_seed(1)
        outputs = one.run(*inputs)
        torch.manual_seed(1)
        flat = fx.Interpreter(two.body, graph=two.graphs[mode]).run(*two.flat_inputs(inputs, {}))
        for mine, theirs in zip(nested.leaves(outputs), nested.leaves(flat), strict=True):
            assert torch.equal(mine, theirs)
        sum(leaf.sum() for leaf in nested.leaves(outputs)).backward()
        sum(leaf.sum() for leaf in nested.leaves(flat)).backward()
        for (name, mine), (_, theirs) in zip(one.named_parameters(), two.named_parameters(), strict=True):
            assert (mine.grad is None) == (theirs.grad is None), name
            assert mine.grad is None or torch.equal(mine.grad, theirs.grad), name
        for (name, mine), (_, theirs) in zip(one.named_buffers(), two.named_buffers(), strict=True):
            assert torch.equal(mine, theirs), name


def canonical(graph: fx.Graph, tree: nn.Module, repeatable: Callable[[fx.Node], bool]) -> list[str]:
    """The calls of a graph in order, with attributes by their first name, and what every block may compute for itself written out."""
    held = (*tree.named_parameters(remove_duplicate=False), *tree.named_buffers(remove_duplicate=False))
    first = {id(tensor): name for name, tensor in reversed(held)}
    text: dict[fx.Node, str] = {}
    lines: list[str] = []
    for node in graph.nodes:
        call = f"{node.op} {node.target} {_spelled(node.args, text)} {_spelled(node.kwargs, text)}"
        if node.op == "get_attr":
            found: Any = tree
            for part in str(node.target).split("."):
                found = getattr(found, part)
            text[node] = first.get(id(found), str(node.target))
        elif node.target is getattr and node.args[1] in ("dtype", "device"):
            text[node] = str(node.args[1])
        elif node.op == "placeholder" or repeatable(node):
            text[node] = call
        elif node.target is store:
            lines.append(call)
        else:
            text[node] = f"%{len(lines)}"
            lines.append(call)
    return lines


def _spelled(value: Any, text: dict[fx.Node, str]) -> str:
    return str(nested.map_leaves(value, lambda leaf: text[leaf] if isinstance(leaf, fx.Node) else repr(leaf)))


@pytest.mark.slow_cases("convnext", "resnet", "swin", "xcit", "edgenext", "eva")
@pytest.mark.parametrize("name", _SMALL)
def test_blocks_compute_what_the_flat_graph_does(name: str) -> None:
    _, packed, _, x = _packed(name)
    same_as_flat(packed, (x,))
    same_as_flat(packed.extract(1), (x,))


@pytest.mark.slow_cases("convnext", "swin", "xcit", "edgenext", "eva")
@pytest.mark.parametrize("name", _SMALL)
def test_flat_again_is_the_flat_graph(name: str) -> None:
    _, packed, recording, _ = _packed(name)
    for network, members in ((packed, 2), (packed.member_template, 1)):
        found = nest(network.graphs, recording.graphs.calls, network.body, members)
        for mode in ("eval", "train"):
            again = flat_again(found.roots["shared"], found.blocks | found.layers, mode)
            mine = canonical(again, network.body, lambda node: bool(node.meta.get("repeatable")))
            assert mine == canonical(network.graphs[mode], network.body, is_repeatable)


@pytest.mark.slow_cases("convnext", "swin", "xcit", "edgenext", "resnet")
@pytest.mark.parametrize("name", _SMALL)
def test_modules_are_called_as_often_and_in_the_order_of_the_reference(name: str) -> None:
    model, packed, _, x = _packed(name)
    for training in (False, True):
        wanted, found = (calls_of(network.train(training), x) for network in (model, packed))
        assert found == wanted


@pytest.mark.parametrize("alone", [False, True])
def test_layers_dropped_at_random_follow_their_own_mode(alone: bool) -> None:
    """What such a layer asks its input for, the dtype and device of its noise, is no reason to be called otherwise in training."""
    torch.manual_seed(0)
    features = torchvision.models.SwinTransformer([2, 2], 8, [2, 2], [2, 2], [2, 2], stochastic_depth_prob=0.9, num_classes=5)
    x = torch.randn(4, 3, 8, 8)
    packed = packify.pack(features, x, alpha=2, num_estimators=2)
    assert all(len(ports_of(module)) <= 1 for module in packed.modules())
    network = packed.extract(1) if alone else packed
    network.eval()
    evaluated = network(x) if alone else packed.members(x).flatten(0, 1)
    network.train()
    assert not torch.equal(network(x), network(x))
    network.features.eval()
    torch.testing.assert_close(network(x), evaluated)


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d, functools.partial(nn.BatchNorm2d, affine=False, track_running_stats=False)])
def test_norms_without_tensors_have_the_width_of_what_they_are_given(norm: Callable[[int], nn.Module]) -> None:
    """Torch warns of any other in every call, and no graph that is to be compiled whole may warn."""
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), norm(16), nn.ReLU(), nn.Conv2d(16, 8, 3))
    x = torch.randn(2, 3, 8, 8)
    packed = packify.pack(model, x, alpha=2, num_estimators=4, average="mean").eval()
    assert packed.get_submodule("1").num_features == 4 * 8
    assert packed.extract(0).get_submodule("1").num_features == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for strategy in ("grouped", "in turn"):
            packed.strategy = strategy
            packed(x)
        packed.extract(0).eval()(x)
    torch.compile(packed, backend="eager", fullgraph=True)(x)


def calls_of(network: nn.Module, *inputs: Any) -> list[str]:
    """The names of the modules whose forward hooks fire, in order."""
    seen: list[str] = []
    handles = [module.register_forward_hook(lambda *_, name=name: seen.append(name)) for name, module in network.named_modules()]
    with torch.no_grad():
        network(*inputs)
    for handle in handles:
        handle.remove()
    return seen


def test_equal_blocks_share_their_code() -> None:
    _, packed, _, _ = _packed("vit")
    one, two = packed.get_submodule("blocks.0"), packed.get_submodule("blocks.1")
    assert isinstance(one, Block)
    assert type(one) is type(two)
    assert len(one.code.splitlines()) < 15
