"""The laws as checks of their own, written without `packify.verify` and without the engine's notion of a layout.

Equality runs extracted members one by one. Independence poisons one member with NaN and compares which elements of every
activation each member's output depends on. Parity trains the packed network and its members side by side.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

import packify

TOLERANCE = 1e-9
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def call(network: Callable[..., Any], inputs: Any) -> Any:
    """Call with a tensor, a tuple of positional or a dict of keyword arguments."""
    if isinstance(inputs, dict):
        return network(**inputs)
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)


def leaves(value: Any) -> list[Tensor]:
    """Every floating tensor in an output, in order."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves(item)]
    if dataclasses.is_dataclass(value):
        return [leaf for field in dataclasses.fields(value) for leaf in leaves(getattr(value, field.name))]
    return []


def no_dropout(network: nn.Module) -> None:
    """Random masks cannot be equal in two runs: switch the modules that draw them off."""
    for module in network.modules():
        if isinstance(module, _DROPOUTS):
            module.p = 0.0
        if isinstance(module, nn.RNNBase):
            module.dropout = 0.0


def copied(network: packify.PackedNetwork) -> packify.PackedNetwork:
    """A copy with tensors and layers of its own; the graphs, which nothing here changes, are shared: copying them takes long."""
    shared = (network.report, *(graph for part in (network, network.member_template) for graph in part.graphs.values()))
    return copy.deepcopy(network, {id(one): one for one in shared})


def randomised(packed: packify.PackedNetwork, seed: int = 0) -> packify.PackedNetwork:
    """A float64 copy without dropout whose every floating parameter and statistic is random."""
    network = copied(packed).double()
    no_dropout(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / max(fan, 1) ** 0.5)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
    return network


def doubled(inputs: Any) -> Any:
    """Floating inputs as float64."""
    if isinstance(inputs, Tensor):
        return inputs.double() if inputs.is_floating_point() else inputs
    if isinstance(inputs, dict):
        return {key: doubled(value) for key, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(map(doubled, inputs))
    return inputs


def own_inputs(packed: packify.PackedNetwork, inputs: Any, member: int) -> Any:
    """What member `member` sees of independent inputs ``"(m b) ..."``."""
    if isinstance(inputs, Tensor):
        return inputs.chunk(packed.num_estimators)[member]
    if isinstance(inputs, dict):
        return {key: own_inputs(packed, value, member) for key, value in inputs.items()}
    return tuple(own_inputs(packed, value, member) for value in inputs)


def several(inputs: Any, members: int) -> Any:
    """Independent inputs ``"(m b) ..."``, every member's its own."""
    if isinstance(inputs, Tensor):
        if not inputs.is_floating_point():
            return torch.cat([inputs.roll(member, 0) for member in range(members)])
        return torch.cat([inputs * (1 + member) / members for member in range(members)])
    if isinstance(inputs, dict):
        return {key: several(value, members) for key, value in inputs.items()}
    return tuple(several(value, members) for value in inputs)


def close(a: Tensor, b: Tensor, what: str, tolerance: float = TOLERANCE, least: float = 1e-30) -> None:
    """Equal shapes, and equal values up to `tolerance` of the largest, or of `least` where all are smaller."""
    assert a.shape == b.shape, f"{what}: shape {tuple(a.shape)} against {tuple(b.shape)}"
    if not a.numel():
        return
    scale = max(float(a.abs().max()), float(b.abs().max()), least)
    error = float((a - b).abs().max()) / scale
    assert error <= tolerance, f"{what}: differs by {error:.2e} of the largest value"


def share(tensor: Tensor, members: int, member: int) -> Tensor:
    """Law 6: member's share of a packed tensor."""
    return tensor.chunk(members)[member] if tensor.dim() else tensor


@contextmanager
def borrowed(network: nn.Module) -> Iterator[None]:
    """What happens inside leaves no trace in the network's tensors, gradients and modes."""
    tensors = [(tensor, tensor.detach().clone()) for tensor in (*network.parameters(), *network.buffers())]
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in tensors:
                tensor.copy_(value)
                tensor.grad = None
        for module, training in modes:
            module.training = training


def extracted(packed: packify.PackedNetwork) -> list[nn.Module]:
    """Every member alone, without dropout."""
    singles: list[nn.Module] = [packed.extract(member) for member in range(packed.num_estimators)]
    for single in singles:
        no_dropout(single)
    return singles


def check_equality(packed: packify.PackedNetwork, inputs: Any) -> None:
    """Law 1 in both modes."""
    for training in (False, True):
        with borrowed(packed), torch.no_grad():
            singles = extracted(packed.train(training))
            outputs = leaves(call(packed.members, inputs))
            assert outputs
            own = dict(packed.named_buffers())
            for member, single in enumerate(singles):
                assert single.training == training
                alone = leaves(call(single, inputs))
                for index, (mine, other) in enumerate(zip(outputs, alone, strict=True)):
                    close(mine[member], other, f"output {index} of member {member}, {'train' if training else 'eval'}")
                for name, buffer in single.named_buffers():
                    if buffer.is_floating_point() and "_constant" not in name:
                        close(
                            share(own[name], packed.num_estimators, member).reshape(buffer.shape),
                            buffer,
                            f"buffer {name} of member {member}",
                        )


def check_poison(packed: packify.PackedNetwork, inputs: Any) -> None:
    """Law 2: a member whose weights are all NaN has only NaN outputs, or none that changed; the others do not notice it."""
    for training in (True,) if packed.graphs["eval"] is packed.graphs["train"] else (False, True):
        with torch.no_grad():
            with borrowed(packed):
                before = leaves(call(packed.train(training).members, inputs))
            for poisoned in range(packed.num_estimators):
                with borrowed(packed):
                    for parameter in packed.parameters():
                        share(parameter, packed.num_estimators, poisoned).fill_(float("nan"))
                    after = leaves(call(packed.train(training).members, inputs))
                for clean, dirty in zip(before, after, strict=True):
                    for member in range(packed.num_estimators):
                        if member != poisoned:
                            assert torch.equal(clean[member], dirty[member]), f"member {member} sees member {poisoned}"


class _Recorder(fx.Interpreter):
    """Runs a packed graph and keeps every floating tensor."""

    def __init__(self, network: packify.PackedNetwork) -> None:
        graph = network.graphs["train" if network.training else "eval"]
        super().__init__(network.body, garbage_collect_values=False, graph=graph)
        self.seen: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point() and value.requires_grad:
            self.seen[n] = value
            if not value.is_leaf:
                value.retain_grad()
        return value


def check_activations(packed: packify.PackedNetwork, inputs: Any) -> int:
    """Law 2 inside: the outputs of two members depend on disjoint elements of every tensor that depends on a parameter."""
    network = copied(packed).eval().requires_grad_(True)
    supports: list[dict[str, Tensor]] = []
    for member in range(network.num_estimators):
        network.zero_grad(set_to_none=True)
        recorder = _Recorder(network)
        args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
        outputs = [
            output
            for output in recorder.run(*network.interface.flat_inputs(args, kwargs))
            if isinstance(output, Tensor) and output.requires_grad
        ]
        torch.autograd.backward([output[member].sum() + output[member].square().sum() for output in outputs])
        supports.append({node.name: value.grad != 0 for node, value in recorder.seen.items() if value.grad is not None})
    for (first, mine), (second, other) in itertools.combinations(enumerate(supports), 2):
        for name in mine.keys() & other.keys():
            assert not (mine[name] & other[name]).any(), f"members {first} and {second} share elements of {name}"
    return len(supports[0])


def check_parity(packed: packify.PackedNetwork, inputs: Any, steps: int = 3) -> None:
    """Law 3: optimiser steps with momentum on the packed network are the same steps on every member alone."""
    network = copied(packed).train().requires_grad_(True)
    singles = extracted(network)
    optimisers = [torch.optim.SGD(part.parameters(), lr=1e-3, momentum=0.9) for part in (network, *singles)]
    for _ in range(steps):
        for optimiser in optimisers:
            optimiser.zero_grad()
        _loss(leaves(call(network.members, inputs)), 1).backward()
        for member, single in enumerate(singles):
            _loss(leaves(call(single, inputs)), 0).backward()
            _compare(network, single, member, gradients=True)
        for optimiser in optimisers:
            optimiser.step()
    for member, single in enumerate(singles):
        _compare(network, single, member, gradients=False)


def _loss(outputs: list[Tensor], skip: int) -> Tensor:
    """A sum over members of a loss in which every output element pulls differently."""
    total = torch.zeros((), dtype=torch.float64)
    for output in outputs:
        if output.requires_grad:
            pull = torch.linspace(-1, 1, output[0].numel() if skip else output.numel(), dtype=torch.float64).view(output.shape[skip:])
            total = total + (output.sin() - pull).square().sum()
    return total


def _compare(network: packify.PackedNetwork, single: nn.Module, member: int, *, gradients: bool) -> None:
    mine = dict((*network.named_parameters(), *network.named_buffers()))
    for name, tensor in (*single.named_parameters(), *single.named_buffers()):
        packed, alone = (mine[name].grad, tensor.grad) if gradients else (mine[name].detach(), tensor.detach())
        if alone is None or packed is None or "_constant" in name:
            assert "_constant" in name or (alone is None) == (packed is None) or not (alone if packed is None else packed).any()
            continue
        if alone.is_floating_point():
            close(
                share(packed, network.num_estimators, member).reshape(alone.shape), alone, f"{'gradient of ' * gradients}{name}", 1e-6, 1e-4
            )


def check_member_major(packed: packify.PackedNetwork, reference: nn.Module) -> None:
    """Law 6: the reference's keys; leading axis M times the member's; extract(m) holds chunk m."""
    state, single = packed.state_dict(), packed.extract(0)
    names = [name for name in reference.state_dict() if name not in packed.unused]
    assert list(state) == names, set(state) ^ set(names)
    assert [name for name, _ in packed.named_parameters()] == [
        name for name, _ in reference.named_parameters() if name not in packed.unused
    ]
    assert sorted(name for name, _ in packed.named_buffers() if "_constant" not in name) == sorted(
        name for name, _ in reference.named_buffers() if name not in packed.unused
    )
    assert list(single.state_dict()) == list(state)
    for member in range(packed.num_estimators):
        for name, tensor in packed.extract(member).state_dict().items():
            own = state[name]
            if name in dict(packed.named_buffers()) and not own.dim():
                assert own.shape == tensor.shape
                continue
            assert own.shape == (packed.num_estimators * (tensor.shape[0] if tensor.dim() else 1), *tensor.shape[1:])
            assert torch.equal(own.chunk(packed.num_estimators)[member].reshape(tensor.shape), tensor)


def check_forward(packed: packify.PackedNetwork, reference: nn.Module, inputs: Any) -> None:
    """Train mode is members' outputs folded; eval mode has the reference's structure and shapes. Changes `reference`."""
    network, reference = copied(packed).eval(), reference.double().eval()
    with torch.no_grad():
        single = call(reference, inputs)
        whole = call(network, inputs)
        assert type(whole) is type(single)
        for ours, theirs in zip(leaves(whole), leaves(single), strict=True):
            assert ours.shape == theirs.shape
        network.inputs = "shared"
        network.train()
        members = leaves(call(copied(network).members, inputs))
        for folded, output in zip(leaves(call(network, inputs)), members, strict=True):
            close(folded, output.flatten(0, 1) if output.dim() > 1 else output, "forward in train mode")


def check_budget(packed: packify.PackedNetwork, reference: nn.Module) -> None:
    """Law 7: packed parameters are M times a member's, and the report counts what is there."""
    report = packed.report
    assert report.packed_params == sum(parameter.numel() for parameter in packed.parameters())
    assert report.packed_params == packed.num_estimators * report.member_params
    assert report.member_params == sum(parameter.numel() for parameter in packed.extract(0).parameters())
    assert report.reference_params == sum(parameter.numel() for parameter in reference.parameters())


def check_all(packed: packify.PackedNetwork, reference: nn.Module, inputs: Any, *, parity: bool = True) -> None:
    """Laws 1, 2, 3, 6 and 7."""
    network, inputs = randomised(packed), doubled(inputs)
    check_member_major(network, reference)
    check_budget(packed, reference)
    check_equality(network, inputs)
    check_poison(network, inputs)
    check_activations(network, inputs)
    if parity:
        check_parity(network, inputs)
    if packed.inputs == "independent":
        check_independent_training(network, inputs)
    check_forward(network, reference, inputs)


def check_independent_training(packed: packify.PackedNetwork, inputs: Any) -> None:
    """Laws 1 and 3 on a call in training mode with a batch per member: outputs and gradients are those of each member on its own batch."""
    network = copy.deepcopy(packed).train().requires_grad_(True)
    singles, batches = extracted(network), several(inputs, network.num_estimators)
    outputs = leaves(call(network, batches))
    _loss([output.unflatten(0, (network.num_estimators, -1)) for output in outputs if output.dim()], 1).backward()
    for member, single in enumerate(singles):
        alone = leaves(call(single, own_inputs(network, batches, member)))
        for index, (mine, other) in enumerate(zip(outputs, alone, strict=True)):
            close(
                mine.detach().chunk(network.num_estimators)[member].reshape(other.shape),
                other.detach(),
                f"independent output {index} of member {member}",
            )
        _loss([output for output in alone if output.dim()], 0).backward()
        _compare(network, single, member, gradients=True)


def load_read(network: nn.Module, state: Mapping[str, Tensor], unused: Collection[str]) -> None:
    """Load a member's tensors into a network of the user's own, which has those that forward never reads too."""
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= set(unused), set(missing) - set(unused)


def check_same_function(packed: packify.PackedNetwork, build: Callable[[], nn.Module], inputs: Any) -> None:
    """The user's own code, at a member's widths and with a member's weights, computes what that member computes."""
    network, inputs = randomised(packed), doubled(inputs)
    for training in (False, True):
        with borrowed(network), torch.no_grad():
            states = [network.extract(member).state_dict() for member in range(network.num_estimators)]
            outputs = leaves(call(network.train(training).members, inputs))
            for member, state in enumerate(states):
                own = build().double().train(training)
                no_dropout(own)
                load_read(own, state, packed.unused)
                for mine, theirs in zip(outputs, leaves(call(own, inputs)), strict=True):
                    close(mine[member], theirs, f"member {member} against the user's own module, {'train' if training else 'eval'}")


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Law 9: weights, buffers, modes, hooks and attributes of `model` are the same afterwards."""

    def snapshot() -> Any:
        tensors = {name: tensor.detach().clone() for name, tensor in (*model.named_parameters(), *model.named_buffers())}
        modes = {name: module.training for name, module in model.named_modules()}
        hooks = {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in model.named_modules()
        }
        attributes = {name: sorted(vars(module)) for name, module in model.named_modules()}
        grads = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        return tensors, modes, hooks, attributes, grads, [id(tensor) for tensor in (*model.parameters(), *model.buffers())]

    before = snapshot()
    yield
    after = snapshot()
    assert before[1:] == after[1:]
    assert before[0].keys() == after[0].keys()
    for name, tensor in before[0].items():
        assert torch.equal(tensor, after[0][name]), name
