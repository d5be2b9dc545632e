"""The calls of modules: hooks fire on a packed network and on its members as often, and in the order, as on the reference."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import packify
from packify.core import nested
from packify.sources.resolving import resolve
from tests.zoo import numeric
from tests.zoo.architectures import Architecture, architectures


def families() -> list[Architecture]:
    """One architecture of every family whose laws hold, by family."""
    known = {(one.library, one.name): one for one in architectures()}
    rows = [row for row in numeric.read().values() if row.outcome == "holds"]
    return [known[key] for row in rows if (key := (row.family.partition(":")[0], row.name)) in known]


def difference(one: Architecture) -> str:
    """Where the calls of a family's packed network, or of a member of it, first differ from the reference's; nothing if they do not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a network's own code warns of is no outcome
        try:
            return _difference(*without_data(one))
        except NotImplementedError:  # constants of its code need data
            return _difference(*numeric.small(one))


def _difference(model: nn.Module, inputs: Any) -> str:
    packed = numeric.packed(model, inputs)
    return calls_differ(model, (packed, packed.extract(1)), inputs)


def without_data(one: Architecture) -> tuple[nn.Module, Any]:
    """The reference on the meta device, and inputs of the size that the table of families has."""
    shapes = next(row.input for row in numeric.read().values() if (row.family, row.name) == (f"{one.library}:{one.family}", one.name))
    sizes = [tuple(map(int, text.split("x"))) for text in shapes.split(", ")]
    inputs = tuple(torch.empty(2, *size, device="meta") for size in sizes)
    size = () if one.part or len(sizes) > 1 else sizes[0]
    try:
        model = resolve(one.label, input_size=size or None, device="meta").model
    except packify.PackifyError:
        model = resolve(one.label, device="meta").model
    return model.get_submodule(one.part) if one.part else model, inputs


def calls_differ(model: nn.Module, networks: Iterable[nn.Module], inputs: Any) -> str:
    """Where the calls of networks first differ from the reference's, in either mode, forward or backward; nothing if they do not."""
    for network, training, backward in itertools.product(networks, (False, True), (False, True)):
        wanted, found = (calls_of(each.train(training), inputs, backward=backward) for each in (model, network))
        for number, (one, other) in enumerate(itertools.zip_longest(wanted, found)):
            if one != other:
                where = f"{type(network).__name__}, {'train' if training else 'eval'}, {'backward' if backward else 'forward'}"
                return f"{where}, call {number}: {other} for {one} ({len(found)} calls for {len(wanted)})"
    return ""


def calls_of(network: nn.Module, inputs: Any, *, backward: bool = False) -> list[str]:
    """The forward-pre hooks and the forward hooks that fire, in order: ``"> layer1.0.conv1"``, ``"< layer1.0.conv1"``.

    With `backward` the full backward hooks instead, of a backward pass from everything that the network returns.
    """
    seen: list[str] = []
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        if backward:
            handles.append(module.register_full_backward_pre_hook(lambda *_, name=name: seen.append(f"> {name}")))
            handles.append(module.register_full_backward_hook(lambda *_, name=name: seen.append(f"< {name}")))
        else:
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: seen.append(f"> {name}"), with_kwargs=True))
            handles.append(module.register_forward_hook(lambda *_, name=name: seen.append(f"< {name}")))
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    try:
        if backward:
            with OutOfPlace():
                _backward(network(*args))
        else:
            with torch.no_grad():
                network(*args)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _backward(outputs: Any) -> None:
    leaves = [leaf for leaf in nested.leaves(outputs) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # of a part whose inputs take no gradient
        torch.autograd.backward(leaves, [torch.ones_like(leaf) for leaf in leaves])


class OutOfPlace(TorchFunctionMode):
    """Code that writes to a tensor makes a new one instead: torch lets nobody write to what a full backward hook watches."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = str(getattr(func, "__name__", ""))
        if kwargs.get("inplace"):
            kwargs["inplace"] = False
        elif name.endswith("_") and not name.startswith("__") and isinstance(args[0], torch.Tensor) and args[0].requires_grad:
            func = getattr(torch.Tensor, name[:-1], func)
        return func(*args, **kwargs)
