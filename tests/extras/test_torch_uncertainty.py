"""The methods against the hand-written networks of torch-uncertainty, weights copied; they run where that library is installed.

Only its layers and its ResNets are imported: its packages' own ``__init__`` would import what it trains with.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.laws.observation import relative

M, CLASSES = 3, 7
_HOLLOW = ("torch_uncertainty", "torch_uncertainty.models", "torch_uncertainty.models.classification")
_HOLLOW += ("torch_uncertainty.models.classification.resnet",)


@pytest.fixture
def resnets() -> Iterator[Callable[[str], Any]]:
    """Modules of the library's ResNets by name, without what is around them."""
    pytest.importorskip("einops")
    found = importlib.util.find_spec("torch_uncertainty")
    if found is None or found.origin is None:
        pytest.skip("could not import 'torch_uncertainty'")
    before, folder = dict(sys.modules), Path(found.origin).parents[1]
    for name in _HOLLOW:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder.joinpath(*name.split(".")))]
    try:
        yield lambda name: importlib.import_module(f"{_HOLLOW[-1]}.{name}")
    finally:
        for name in sys.modules.keys() - before.keys():
            if name.startswith("torch_uncertainty"):
                del sys.modules[name]


def _reference(resnets: Callable[[str], Any], *, biased: bool = False) -> nn.Module:
    """Their ResNet-20 of one network, with statistics and biases that are not trivial; in front of a norm some of theirs have no bias."""
    torch.manual_seed(0)
    style = resnets("utils").ResNetStyle.CIFAR
    model: nn.Module = resnets("std").resnet(in_channels=3, num_classes=CLASSES, arch=20, style=style, conv_bias=True).double()
    if not biased:
        model.conv1.bias = None
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if "running_var" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.dim() == 1:
                tensor.add_(0.2 * torch.randn_like(tensor))
    return model


def _theirs(resnets: Callable[[str], Any], kind: str, **settings: Any) -> nn.Module:
    module, style = resnets(kind), resnets("utils").ResNetStyle.CIFAR
    make = getattr(module, {"batched": "batched_resnet", "masked": "masked_resnet", "mimo": "mimo_resnet"}[kind])
    made: nn.Module = make(in_channels=3, num_classes=CLASSES, arch=20, num_estimators=M, style=style, conv_bias=True, **settings).double()
    return made


def _copy(theirs: nn.Module, held: dict[str, Tensor], ours: Callable[[str], str]) -> None:
    """Fill their tensors with ours, all of them; `ours` gives our names for theirs."""
    tensors = dict([*theirs.named_parameters(), *theirs.named_buffers()])
    assert set(map(ours, tensors)) == held.keys()
    with torch.no_grad():
        for name, tensor in tensors.items():
            own = held[ours(name)]
            first = own.dim() == tensor.dim() == 4 and own.shape[1] != tensor.shape[1]  # MIMO's: members side by side
            tensor.copy_(torch.cat(own.chunk(M), 1) if first else own.view(tensor.shape))


def _compare(network: Any, theirs: nn.Module, x: Tensor, gradient_of: Callable[[str, Tensor], tuple[str, Tensor]]) -> None:
    """Outputs and gradients in training mode, with the statistics of all members' activations, and outputs in evaluation mode."""
    found, wanted = network.train()(x), theirs.train()(x)
    assert relative(found, wanted) < 1e-10
    found.sin().sum().backward()
    wanted.sin().sum().backward()
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            ours, gradient = gradient_of(name, parameter.grad)  # type: ignore[arg-type] # it has one
            difference = network.get_parameter(ours).grad - gradient
            assert float(difference.abs().max()) < 1e-8 * max(1.0, float(gradient.abs().max())), name
    network.inputs = "shared"
    x = x[:4]
    with torch.no_grad():
        assert relative(network.eval().members(x).flatten(0, 1), theirs.eval()(x)) < 1e-10


def test_batch_ensemble(resnets: Callable[[str], Any]) -> None:
    reference, x = _reference(resnets), torch.randn(2 * M, 3, 12, 12).double()
    network: Any = packify.batch_ensemble(reference, x, num_estimators=M, layers="!*shortcut*", inputs="independent", average="probs")
    theirs = _theirs(resnets, "batched")
    held = network.state_dict()

    def ours(name: str) -> str:
        return name.replace(".conv.weight", ".weight").replace("linear.linear", "linear").replace("r_group", "r").replace("s_group", "s")

    _copy(theirs, held, ours)
    _compare(network, theirs, x, lambda name, gradient: (ours(name), gradient.view(held[ours(name)].shape)))


def test_masksembles(resnets: Callable[[str], Any]) -> None:
    reference, x = _reference(resnets), torch.randn(2 * M, 3, 12, 12).double()
    network: Any = packify.masksembles(reference, x, num_estimators=M, scale=2.0, inputs="independent", average="probs")
    theirs = _theirs(resnets, "masked", scale=2.0, repeat_strategy="paper")
    held = network.state_dict()

    def ours(name: str) -> str:
        return name.replace(".conv.", ".").replace("linear.linear", "linear").replace(".mask.masks", ".mask")

    _copy(theirs, held, ours)
    assert {ours(name) for name, _ in theirs.named_parameters() if "mask" in name} == network.masks.keys()
    _compare(network, theirs, x, lambda name, gradient: (ours(name), gradient))


def test_mimo(resnets: Callable[[str], Any]) -> None:
    reference, x = _reference(resnets, biased=True), torch.randn(2 * M, 3, 12, 12).double()
    network: Any = packify.mimo(reference, x, num_estimators=M, average="probs")
    theirs = _theirs(resnets, "mimo")
    held = network.state_dict()

    def narrow(name: str, gradient: Tensor) -> tuple[str, Tensor]:
        return name, torch.cat(gradient.chunk(M, 1)) if name == "conv1.weight" else gradient

    _copy(theirs, held, lambda name: name)
    _compare(network, theirs, x, narrow)
