"""The laws of a packed network as a function that a user can call on their own: equality, independence, training parity."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from packify.ensemble import PackedNetwork
from packify.errors import LawBroken
from packify.packing.members import unfold
from packify.tracing import structure
from packify.tracing.names import operator_of

_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Verification:
    """The largest errors that were measured, relative to the largest value compared.

    Attributes:
        equality: members of the packed network against the extracted members, over both modes.
        independence: gradient that reaches another member's parameters or activations; exactly zero when the law holds.
        parity: parameters after one optimiser step, packed against each member alone.
        activations: how many packed activations were checked for independence.
        batch: the batch size used.
    """

    equality: float
    independence: float
    parity: float
    activations: int
    batch: int

    def to_dict(self) -> dict[str, Any]:
        """The figures as a JSON-able dict."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"members equal themselves to {self.equality:.1e}, one training step to {self.parity:.1e}; "
            f"no gradient between members (checked on {self.activations} activations)"
        )


def verify(packed: PackedNetwork, x: Any = None, *, train: bool = True, seed: int = 0, batch: int = 3) -> Verification:
    """Check equality, independence and training parity of `packed` on a float64 copy with fresh random weights.

    Args:
        packed: the network; it is not changed.
        x: inputs as for ``forward`` (a tensor, a tuple or a dict); None draws some shaped like the example it was packed with.
        train: also check training mode.
        seed: of the weights and the input.
        batch: batch size of the drawn input.

    Raises:
        LawBroken: naming the first node at which a law does not hold.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _double(packed)
        _randomise(network)
        inputs = _inputs(network, x, batch)
        equality = max(_equality(network, inputs, training) for training in ((False, True) if train else (False,)))
        independence, activations = _independence(network, inputs)
        parity = _parity(network, inputs) if train else 0.0
    return Verification(equality, independence, parity, activations, batch)


def _double(packed: PackedNetwork) -> PackedNetwork:
    """A float64 copy on the CPU."""
    if any(tensor.is_meta for tensor in (*packed.parameters(), *packed.buffers())):
        raise LawBroken("packed", found="tensors on the meta device", why="there is nothing to compute with", fix="pack a reference that has weights")
    network = copy.deepcopy(packed).cpu().double()
    for module in (*network.modules(), *network.member_template.body.modules()):
        if isinstance(module, _DROPOUTS):
            module.p = 0.0
        if isinstance(module, nn.RNNBase):
            module.dropout = 0.0
    for graph in {id(graph): graph for part in (network, network.member_template) for graph in part.graphs.values()}.values():
        _without_dropout(graph)
    for part in (network, network.member_template):
        part.recompile()
    return network


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def _without_dropout(graph: fx.Graph) -> None:
    """Functional dropout with probability 0, so that two runs can be compared."""
    for node in graph.find_nodes(op="call_function", target=F.scaled_dot_product_attention):
        node.args = (*node.args[:4], 0.0, *node.args[5:]) if len(node.args) > 4 else node.args
        node.kwargs = {key: 0.0 if key == "dropout_p" else value for key, value in node.kwargs.items()}
    for node in graph.nodes:
        if node.op == "call_function" and "dropout" in operator_of(node.target).name:
            node.args, node.kwargs = node.args[:1], {**node.kwargs, "p": 0.0}


def _randomise(network: PackedNetwork) -> None:
    """Every floating tensor of every member different and neither zero nor huge, so that nothing is hidden by an initial zero."""
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 1
            noise = torch.randn_like(parameter) / fan**0.5 if parameter.dim() > 1 else 0.1 * torch.randn_like(parameter)
            center = parameter.mean() if parameter.dim() <= 1 else 0.0
            parameter.copy_(noise + center)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)


def _inputs(network: PackedNetwork, x: Any, batch: int) -> Any:
    example = network.example_inputs if x is None else x
    independent = network.inputs == "independent"

    def make(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if x is not None:
            return leaf.double() if leaf.is_floating_point() else leaf
        count = batch * network.num_estimators if independent else batch
        shape = (count, *leaf.shape[1:]) if leaf.dim() and network.batched else tuple(leaf.shape)
        return torch.randn(shape, dtype=torch.float64) if leaf.is_floating_point() else torch.zeros(shape, dtype=leaf.dtype).random_(0, 2)

    return structure.walk(example, make)


def call(function: Any, inputs: Any) -> Any:
    """Call with example inputs: a tensor, a tuple of positional or a dict of keyword arguments."""
    if isinstance(inputs, dict):
        return function(**inputs)
    return function(*inputs) if isinstance(inputs, tuple) else function(inputs)


def _share(network: PackedNetwork, inputs: Any, member: int) -> Any:
    if network.inputs == "shared":
        return inputs
    return structure.walk(inputs, lambda leaf: leaf.chunk(network.num_estimators)[member] if isinstance(leaf, Tensor) else leaf)


def _outputs(value: Any) -> list[Tensor]:
    return [leaf for leaf in structure.flatten(value)[0] if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _equality(network: PackedNetwork, inputs: Any, training: bool) -> float:
    network = copy.deepcopy(network).train(training)
    singles = [network.extract(member) for member in range(network.num_estimators)]
    with torch.no_grad(), _quiet_randomness(network, *singles):
        packed = _outputs(call(network.members, inputs))
        worst = 0.0
        for member, single in enumerate(singles):
            for index, (one, alone) in enumerate(zip(packed, _outputs(call(single, _share(network, inputs, member))), strict=True)):
                error = relative(one[member], alone)
                worst = max(worst, error)
                if not error < _TOLERANCE:
                    raise LawBroken(
                        f"output {index} of member {member} in {'train' if training else 'eval'} mode",
                        found=f"members(x) differs from extract({member})(x) by {error:.2e} of the largest value",
                        why="a packed member must compute what it computes alone (law of equality)",
                        fix="please report this network; the first layer that differs is " + _first_difference(network, single, inputs, member),
                    )
    return worst


@contextmanager
def _quiet_randomness(*networks: nn.Module) -> Iterator[None]:
    """Random masks drawn inside a graph cannot be equal in two runs: draw ones instead."""
    originals = {name: getattr(Tensor, name) for name in ("bernoulli_",)}
    originals_of_torch = {name: getattr(torch, name) for name in ("bernoulli",)}
    try:
        Tensor.bernoulli_ = lambda self, p=0.5, **_: self.fill_(p if isinstance(p, float) else 1.0)  # type: ignore[method-assign,assignment,misc]
        yield
    finally:
        for name, original in originals.items():
            setattr(Tensor, name, original)
        for name, original in originals_of_torch.items():
            setattr(torch, name, original)


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest value; NaN compares equal to NaN."""
    if a.shape != b.shape:
        return float("inf")
    both = torch.nan_to_num(a.double()), torch.nan_to_num(b.double())
    scale = float(max(both[0].abs().max(), both[1].abs().max())) if a.numel() else 0.0
    return float((both[0] - both[1]).abs().max()) / scale if scale else 0.0


class _Watch(fx.Interpreter):
    """Runs a graph and keeps every floating tensor it computes."""

    def __init__(self, body: nn.Module, graph: fx.Graph) -> None:
        super().__init__(body, garbage_collect_values=False, graph=graph)
        self.seen: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point():
            self.seen[n] = value
            if value.requires_grad and not value.is_leaf:
                value.retain_grad()
        return value


def _watched(network: PackedNetwork, inputs: Any) -> tuple[_Watch, tuple[Any, ...]]:
    graph = network.graphs["train" if network.training else "eval"]
    watch = _Watch(network.body, graph)
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
    return watch, watch.run(*network.interface.flat_inputs(args, kwargs))


def _independence(network: PackedNetwork, inputs: Any) -> tuple[float, int]:
    """The gradient of each member's output with respect to every other member's parameters and share of every activation."""
    network = copy.deepcopy(network).eval()
    members, worst, checked = network.num_estimators, 0.0, 0
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    for member in range(members):
        network.zero_grad(set_to_none=True)
        watch, outputs = _watched(network, inputs)
        loss = sum((output[member] * torch.randn_like(output[member])).sum() for output in outputs if isinstance(output, Tensor) and output.is_floating_point() and output.requires_grad)
        if not isinstance(loss, Tensor):
            return 0.0, 0
        loss.backward()
        shares = [(name, parameter.grad.chunk(members), "parameter") for name, parameter in network.named_parameters() if parameter.grad is not None]
        for node, value in watch.seen.items():
            axis = node.meta.get("axis")
            if axis is not None and value.grad is not None and "val" in node.meta and _carries(value, node, members):
                shares.append((node.meta["path"] or node.name, unfold(value.grad, axis, members).unbind(0), f"activation {node.name}"))
        checked = max(checked, len(shares))
        for name, gradients, what in shares:
            for other, gradient in enumerate(gradients):
                leak = float(gradient.abs().max()) if other != member and gradient.numel() else 0.0
                worst = max(worst, leak)
                if leak > 0 or leak != leak:
                    raise LawBroken(
                        name,
                        found=f"the gradient of member {member}'s output with respect to member {other}'s share of {what} is {leak:.2e}",
                        why="members may not see each other (law of independence)",
                        fix="please report this network; meanwhile keep that module whole with leaves=[ItsType]",
                    )
    return worst, checked


def _carries(value: Tensor, node: fx.Node, members: int) -> bool:
    axis = node.meta["axis"]
    return value.dim() > max(axis, 0) and value.shape[max(axis, 0)] % members == 0


def _parity(network: PackedNetwork, inputs: Any) -> float:
    """One step of gradient descent with momentum on the sum of the members' losses, packed and alone."""
    network = copy.deepcopy(network).train()
    singles = [network.extract(member) for member in range(network.num_estimators)]
    with _quiet_randomness():
        _step(network, _outputs(call(network.members, inputs)))
        for member, single in enumerate(singles):
            _step(single, _outputs(call(single, _share(network, inputs, member))))
    worst = 0.0
    for member, single in enumerate(singles):
        packed = dict((*network.extract(member).named_parameters(), *network.extract(member).named_buffers()))
        for name, tensor in (*single.named_parameters(), *single.named_buffers()):
            if not tensor.is_floating_point():
                continue
            error = relative(packed[name].detach(), tensor.detach())
            worst = max(worst, error)
            if not error < 1e3 * _TOLERANCE:
                raise LawBroken(
                    name,
                    found=f"after one training step member {member}'s share differs from the member trained alone by {error:.2e} of the largest value",
                    why="training the packed network is training each member (law of training parity)",
                    fix="please report this network",
                )
    return worst


def _step(network: nn.Module, outputs: list[Tensor]) -> None:
    outputs = [output for output in outputs if output.requires_grad]
    if not outputs:
        return
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
    loss: Tensor = sum((torch.sin(output.flatten(1 if isinstance(network, PackedNetwork) else 0)).pow(2)).sum() for output in outputs)  # type: ignore[assignment]
    loss.backward()
    optimiser.step()


def _first_difference(network: PackedNetwork, single: Any, inputs: Any, member: int) -> str:
    """The first node of the member's graph whose value differs."""
    watch, _ = _watched(network, inputs)
    alone = _Watch(single.body, single.graphs["train" if single.training else "eval"])
    shared = _share(network, inputs, member)
    args, kwargs = ((), shared) if isinstance(shared, dict) else (shared if isinstance(shared, tuple) else (shared,), {})
    alone.run(*single.interface.flat_inputs(args, kwargs))
    values = {node.name: value for node, value in alone.seen.items()}
    for node, value in watch.seen.items():
        origin = node.meta.get("member_node")
        axis = node.meta.get("axis")
        if origin is None or origin.name not in values or axis is None or "val" not in node.meta or tuple(node.meta["val"].shape) != tuple(origin.meta["val"].shape):
            continue
        mine = unfold(value, axis, network.num_estimators)[member]
        if not relative(mine, values[origin.name]) < _TOLERANCE:
            return f"{origin.name} ({origin.meta['op']} in {origin.meta['path']}, {origin.meta['source']})"
    return "unknown"
