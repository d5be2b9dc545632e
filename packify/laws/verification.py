"""The laws of a packed network as a function that a user can call on their own: equality, independence, training parity."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from packify.core import nested
from packify.core.errors import PackError, SpecError
from packify.core.spec import whole_number
from packify.laws.equality import measure_equality
from packify.laws.independence import measure_independence
from packify.laws.observation import Batch, call, floating
from packify.laws.parity import measure_parity
from packify.laws.resolution import smaller_example
from packify.laws.shared_members import measure_shared
from packify.laws.testbed import POSITIVE, STANDARD, make_test_bed, random_inputs, randomise, twin
from packify.nn.packed_network import PackedNetwork
from packify.nn.shared_network import SharedNetwork

# Largest error of an output, relative to the largest value, that rounding explains.
_TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}
_SAYS_NOTHING = "a comparison without numbers says nothing"


@dataclass(frozen=True)
class Verification:
    """The largest errors that were measured, relative to the largest value compared.

    Attributes:
        equality: members of the packed network against the extracted members, over both modes.
        independence: gradient that reaches another member's parameters or activations; exactly zero when the law holds.
        parity: parameters after one optimiser step, packed against each member alone; None where members share weights.
        activations: how many packed activations were checked for independence.
        batch: the batch size used.
        dtype: what it was computed in, e.g. ``"float64"``.
        inputs: the shapes of the inputs, e.g. ``"2x3x64x64"``.
        does_not_hold: laws that the method does not have, and why.
    """

    equality: float
    independence: float
    parity: float | None
    activations: int
    batch: int
    dtype: str
    inputs: str
    does_not_hold: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The figures as a JSON-able dict."""
        return asdict(self)

    def __str__(self) -> str:
        if self.parity is None:
            checked = f"no gradient between what members have of their own (checked on {self.activations} tensors, "
            laws = f"members equal themselves to {self.equality:.1e}; {checked}{self.dtype}, inputs {self.inputs})"
            if not self.activations:
                laws = f"members of one repeated input to {self.equality:.1e} ({self.dtype}, inputs {self.inputs})"
            return laws + "".join(f"\n  not a law here: {law}" for law in self.does_not_hold)
        return (
            f"members equal themselves to {self.equality:.1e}, one training step to {self.parity:.1e}; "
            f"no gradient between members (checked on {self.activations} tensors, {self.dtype}, inputs {self.inputs})"
        )


@torch.inference_mode(False)
def verify(
    packed: PackedNetwork, x: Any = None, *, train: bool = True, seed: int = 0, batch: int = 2, dtype: torch.dtype = torch.float64
) -> Verification:
    """Check equality, independence and training parity of `packed` on a copy with fresh random weights.

    Args:
        packed: the network; it is not changed.
        x: inputs as for ``forward`` (a tensor, a tuple or a dict); None draws some shaped like the example it was packed with, or of a
            lower resolution where the network runs on that.
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
    """The laws at a smaller resolution where that can be chosen and the network runs, otherwise, and if in doubt, at the example's."""
    smaller = smaller_example(packed) if x is None else None
    if smaller is not None:
        with contextlib.suppress(Exception):
            return _measured(packed, None, smaller, train, seed, batch, dtype)
    return _measured(packed, x, packed.example_inputs, train, seed, batch, dtype)


def _measured(packed: PackedNetwork, x: Any, example: Any, train: bool, seed: int, batch: int, dtype: torch.dtype) -> Verification:
    tolerance = _TOLERANCES.get(dtype, 1e-2)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        network = make_test_bed(packed, dtype)
        randomise(network)
        inputs = _inputs(network.eval(), x, example, batch, dtype)
        shared, parity = Batch(inputs), 0.0
        tensors = [leaf for leaf in nested.flatten(inputs)[0] if isinstance(leaf, Tensor)]
        shapes = ", ".join("x".join(map(str, tensor.shape)) or "scalar" for tensor in tensors)
        told = (batch, str(dtype).removeprefix("torch."), shapes)
        if isinstance(network, SharedNetwork):
            found = measure_shared(network, shared, tolerance, train=train)
            return Verification(found[0], found[1], None, found[2], *told, network.does_not_hold)
        equality = measure_equality(network.eval(), shared, tolerance)
        independence, activations = measure_independence(network, shared)
        own = [_own_inputs(network, inputs)] if network.inputs == "independent" else []
        for each in own:
            leak, more = measure_independence(network.train(), each)
            independence, activations = max(independence, leak), activations + more
        for each in [shared, *own] if train else []:
            trained, moved = measure_parity(twin(network).train(), each, tolerance)
            equality, parity = max(equality, trained), max(parity, moved)
    return Verification(equality, independence, parity, activations, *told)


def _own_inputs(network: PackedNetwork, inputs: Any) -> Batch:
    """Inputs ``"(m b) ..."`` of which no two members have the same: real ones are scaled, whole ones are rolled along the batch."""

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.dim():
            return leaf
        if leaf.is_floating_point() or leaf.is_complex():
            return torch.cat([leaf * float(weight) for weight in torch.linspace(0.5, 1, network.num_estimators)])
        return torch.cat([leaf.roll(member, 0) for member in range(network.num_estimators)])

    return Batch(nested.map_leaves(inputs, own, in_dataclasses=True), independent=True)


def _inputs(network: PackedNetwork, x: Any, example: Any, batch: int, dtype: torch.dtype) -> Any:
    """`x`, or drawn inputs that the network has numbers for: a logarithm has none for half of what a normal distribution draws.

    Raises:
        PackError: member 0 alone returns NaN.
    """
    tries = [random_inputs(network, x, example, batch, dtype, draw) for draw in ((STANDARD, POSITIVE) if x is None else (STANDARD,))]
    with torch.no_grad():
        for inputs in tries:
            alone = not isinstance(network, SharedNetwork) or network.separable
            outputs = floating(call(network.extract(0) if alone else network.members, inputs))
            if not any(bool((output.isnan().any() if x is None else output.isnan().all()) and output.numel()) for output in outputs):
                return inputs
    raise PackError(
        "x",
        found="NaN in what member 0 alone, with drawn weights, returns for "
        + ("the drawn inputs: pass x=..." if x is None else "these inputs"),
        why=_SAYS_NOTHING,
        fix="pass inputs of the values that the network is made for: packify.verify(packed, x)",
    )
