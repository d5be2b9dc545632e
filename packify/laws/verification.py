"""The laws of a packed network as a function that a user can call on their own: equality, independence, training parity."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.core import nested
from packify.core.errors import LawBroken, PackError, SpecError
from packify.core.spec import whole_number
from packify.laws.observation import call, floating, observe, relative, share
from packify.laws.testbed import POSITIVE, STANDARD, make_test_bed, random_inputs, randomise
from packify.nn.graph_network import MemberNetwork
from packify.nn.members import split_members
from packify.nn.packed_network import PackedNetwork

# Largest error of an output, relative to the largest value, that rounding explains.
_TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}
_SAYS_NOTHING = "a comparison without numbers says nothing"


@dataclass(frozen=True)
class Verification:
    """The largest errors that were measured, relative to the largest value compared.

    Attributes:
        equality: members of the packed network against the extracted members, over both modes.
        independence: gradient that reaches another member's parameters or activations; exactly zero when the law holds.
        parity: parameters after one optimiser step, packed against each member alone.
        activations: how many packed activations were checked for independence.
        batch: the batch size used.
        dtype: what it was computed in, e.g. ``"float64"``.
    """

    equality: float
    independence: float
    parity: float
    activations: int
    batch: int
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        """The figures as a JSON-able dict."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"members equal themselves to {self.equality:.1e}, one training step to {self.parity:.1e}; "
            f"no gradient between members (checked on {self.activations} tensors, {self.dtype})"
        )


@torch.inference_mode(False)
def verify(
    packed: PackedNetwork, x: Any = None, *, train: bool = True, seed: int = 0, batch: int = 2, dtype: torch.dtype = torch.float64
) -> Verification:
    """Check equality, independence and training parity of `packed` on a copy with fresh random weights.

    Args:
        packed: the network; it is not changed.
        x: inputs as for ``forward`` (a tensor, a tuple or a dict); None draws some shaped like the example it was packed with.
        train: also check training mode and one optimiser step.
        seed: of the weights and the input.
        batch: batch size of the drawn input, where the network takes any.
        dtype: what is computed in; float64 tells a wrong network from rounding, float32 is several times faster.

    Raises:
        LawBroken: naming the first node at which a law does not hold.
        PackError: the laws cannot be measured on these inputs, or an argument is not what it should be.
    """
    _check_arguments(packed, x, dtype)
    seed, batch = whole_number("seed", seed, 0, 2**63), whole_number("batch", batch)
    try:
        return _verify(packed, x, train, seed, batch, dtype)
    except (RuntimeError, TypeError):
        if dtype != torch.float64:
            raise
    # The network makes tensors of its own in float32, whatever dtype its weights have.
    return _verify(packed, x, train, seed, batch, torch.float32)


def _check_arguments(packed: Any, x: Any, dtype: Any) -> None:
    if not isinstance(packed, PackedNetwork):
        parts = packed.named_modules() if isinstance(packed, nn.Module) else ()
        names = [name for name, part in parts if isinstance(part, PackedNetwork)]
        raise PackError(
            "packed",
            found=f"a {type(packed).__name__}" + (f" whose parts {', '.join(names)} are packed" if names else ""),
            why="the laws are about the members of one packed network",
            fix=f"pass model.get_submodule({names[0]!r})" if names else "pass what packify.pack gave",
        )
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise SpecError("dtype", found=repr(dtype), why="gradients need floating numbers", fix="pass dtype=torch.float64")
    tensors = [leaf for leaf in nested.flatten(x)[0] if isinstance(leaf, Tensor)]
    empty = bool(tensors) and not any(tensor.numel() for tensor in tensors)
    if empty or any(bool(tensor.isnan().any()) for tensor in tensors):
        raise PackError(
            "x",
            found="tensors without elements" if empty else "NaN",
            why=_SAYS_NOTHING,
            fix="pass inputs that the network can be trained on",
        )


def _verify(packed: PackedNetwork, x: Any, train: bool, seed: int, batch: int, dtype: torch.dtype) -> Verification:
    tolerance = _TOLERANCES.get(dtype, 1e-2)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        network = make_test_bed(packed, dtype)
        randomise(network)
        inputs = _inputs(network.eval(), x, batch, dtype)
        equality = _equality(network.eval(), inputs, tolerance)
        independence, activations = _independence(network, inputs)
        trained, parity = _training(network.train(), inputs, tolerance) if train else (0.0, 0.0)
    return Verification(max(equality, trained), independence, parity, activations, batch, str(dtype).removeprefix("torch."))


def _inputs(network: PackedNetwork, x: Any, batch: int, dtype: torch.dtype) -> Any:
    """`x`, or drawn inputs that the network has numbers for: a logarithm has none for half of what a normal distribution draws.

    Raises:
        PackError: member 0 alone returns NaN.
    """
    tries = [random_inputs(network, x, batch, dtype, draw) for draw in ((STANDARD, POSITIVE) if x is None else (STANDARD,))]
    with torch.no_grad():
        for inputs in tries:
            outputs = floating(call(network.extract(0), share(network, inputs, 0)))
            if not any(bool((output.isnan().any() if x is None else output.isnan().all()) and output.numel()) for output in outputs):
                return inputs
    raise PackError(
        "x",
        found="NaN in what member 0 alone, with drawn weights, returns for "
        + ("the drawn inputs: pass x=..." if x is None else "these inputs"),
        why=_SAYS_NOTHING,
        fix="pass inputs of the values that the network is made for: packify.verify(packed, x)",
    )


def _equality(network: PackedNetwork, inputs: Any, tolerance: float) -> float:
    """Largest difference between a packed member and the same member alone, in evaluation mode."""
    worst = 0.0
    with torch.no_grad():
        packed = floating(call(copy.deepcopy(network).members, inputs))  # a forward may write to buffers
        for member in range(network.num_estimators):
            single = network.extract(member)
            alone = floating(call(single, share(network, inputs, member)))
            worst = max(worst, _compared(network, single, packed, alone, inputs, member, tolerance))
    return worst


def _compared(
    network: PackedNetwork, single: MemberNetwork, packed: list[Tensor], alone: list[Tensor], inputs: Any, member: int, tolerance: float
) -> float:
    worst = 0.0
    for index, (outputs, own) in enumerate(zip(packed, alone, strict=True)):
        error = relative(outputs[member], own)
        worst = max(worst, error)
        if not error < tolerance:
            raise LawBroken(
                f"output {index} of member {member} in {'train' if network.training else 'eval'} mode",
                found=f"members(x) differs from extract({member})(x) by {error:.2e} of the largest value",
                why="a packed member must compute what it computes alone (law of equality)",
                fix="please report this network; the first node that differs is "
                + _first_difference(network, single, inputs, member, tolerance),
            )
    return worst


def _independence(network: PackedNetwork, inputs: Any) -> tuple[float, int]:
    """The gradient of each member's output with respect to every other member's parameters and share of every activation."""
    members = network.num_estimators
    network = copy.deepcopy(network)  # a forward may write to buffers
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    watch, results = observe(network, inputs)
    outputs = [output for output in floating(list(results)) if output.requires_grad]
    places: list[tuple[str, str, Tensor, int]] = [
        (name, f"parameter {name}", parameter, 0) for name, parameter in network.named_parameters() if parameter.dim()
    ]
    for node, value in watch.seen.items():
        axis = node.meta.get("axis")
        if axis is not None and value.requires_grad and "val" in node.meta and _carries(value, node, members) and node.op != "get_attr":
            places.append(
                (node.meta["path"] or node.name, f"activation {node.name} ({node.meta['op']}, {node.meta['source']})", value, axis)
            )
    if not outputs or not places:
        return 0.0, 0

    def gradients(member: int, scale: float) -> tuple[Tensor | None, ...]:
        """Of a random sum of one member's outputs."""
        weights = [torch.zeros_like(output) for output in outputs]
        for weight in weights:
            weight[member] = scale * torch.randn_like(weight[member])
        with _telling(network, inputs):
            return torch.autograd.grad(outputs, [place[2] for place in places], weights, retain_graph=True, allow_unused=True)

    worst = 0.0
    silence: tuple[Tensor | None, ...] | None = None
    for member in range(members):
        for index, gradient in enumerate(gradients(member, 1.0)):
            if gradient is None:
                continue
            if bool(gradient.isnan().any()):
                # Where nothing is asked for and NaN comes all the same, no member has sent it: the backward pass makes it of zeros.
                silence = silence or gradients(member, 0.0)
                gradient = gradient.masked_fill(silence[index].isnan(), 0)  # type: ignore[union-attr]
            name, what, _, axis = places[index]
            leaks = (
                split_members(gradient, axis, members).abs().reshape(members, -1).amax(1)
                if gradient.numel()
                else gradient.new_zeros(members)
            )
            leaks[member] = 0
            leak = float(leaks.max())
            worst = max(worst, leak)
            if not leak == 0:
                raise LawBroken(
                    name,
                    found=f"the gradient of member {member}'s output with respect to member {int(leaks.argmax())}'s share "
                    f"of {what} is {leak:.2e}",
                    why="members may not see each other (law of independence)",
                    fix="please report this network; meanwhile keep that module whole with leaves=[ItsType]",
                )
    return worst, len(places)


@contextlib.contextmanager
def _telling(network: PackedNetwork, inputs: Any) -> Iterator[None]:
    """Where a member alone cannot be differentiated either, say so.

    Raises:
        PackError: it cannot.
    """
    try:
        yield
    except RuntimeError as error:
        if "inplace operation" not in str(error) or _differentiable(network, inputs):
            raise
        raise PackError(
            f"the backward pass in {'train' if network.training else 'eval'} mode",
            found=str(error).partition(";")[0],
            why="the reference overwrites in place what its own gradient needs, so no gradient can be followed",
            fix="call that operator without the underscore at its end (add instead of add_) and pack again",
        ) from error


def _differentiable(network: PackedNetwork, inputs: Any) -> bool:
    """Member 0 alone has gradients."""
    outputs = floating(call(network.extract(0), share(network, inputs, 0)))
    try:
        torch.autograd.backward([output.sum() for output in outputs if output.requires_grad])
    except RuntimeError:
        return False
    return True


def _carries(value: Tensor, node: fx.Node, members: int) -> bool:
    axis: int = node.meta["axis"]
    return value.dim() > max(axis, 0) and value.shape[max(axis, 0)] % members == 0


def _training(network: PackedNetwork, inputs: Any, tolerance: float) -> tuple[float, float]:
    """One step of gradient descent with momentum on the sum of the members' losses, packed and alone: outputs before, tensors after."""
    members = network.num_estimators
    equality = parity = 0.0
    before = copy.deepcopy(network)
    packed = floating(call(network.members, inputs))
    with _telling(before, inputs):
        _step(network, packed)
    for member in range(members):
        single = before.extract(member)
        alone = floating(call(single, share(network, inputs, member)))
        equality = max(equality, _compared(before, single, packed, alone, inputs, member, tolerance))
        _step(single, alone)
        after = network.extract(member)
        own = dict((*after.named_parameters(), *after.named_buffers()))
        for name, tensor in (*single.named_parameters(), *single.named_buffers()):
            if not tensor.is_floating_point():
                continue
            error = relative(own[name].detach(), tensor.detach())
            parity = max(parity, error)
            if not error < 10 * tolerance:
                raise LawBroken(
                    name,
                    found=f"after one training step member {member}'s share differs from the member trained alone "
                    f"by {error:.2e} of the largest value",
                    why="training the packed network is training each member (law of training parity)",
                    fix="please report this network",
                )
    return equality, parity


def _step(network: nn.Module, outputs: list[Tensor]) -> None:
    outputs = [output for output in outputs if output.requires_grad]
    if not outputs:
        return
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
    loss: Tensor = sum(torch.sin(output).pow(2).sum() for output in outputs)  # type: ignore[assignment]
    loss.backward()
    optimiser.step()


def _first_difference(network: PackedNetwork, single: MemberNetwork, inputs: Any, member: int, tolerance: float) -> str:
    """The first node of the member's graph whose value differs."""
    watch, _ = observe(network, inputs)
    alone, _ = observe(single, share(network, inputs, member))
    values = {node.name: value for node, value in alone.seen.items()}
    for node, value in watch.seen.items():
        origin = node.meta.get("member_node")
        axis = node.meta.get("axis")
        if (
            origin is None
            or origin.name not in values
            or axis is None
            or "val" not in node.meta
            or tuple(node.meta["val"].shape) != tuple(origin.meta["val"].shape)
        ):
            continue
        mine = split_members(value, axis, network.num_estimators)[member]
        if not relative(mine, values[origin.name]) < tolerance:
            return f"{origin.name} ({origin.meta['op']} in {origin.meta['path']}, {origin.meta['source']})"
    return "unknown"
