"""What a network costs, and the four networks that a budget compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from packify.core.report import Note
from packify.core.spec import Spec

Convention = Literal["macs", "torchinfo"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
CONVENTION_TEXT: Mapping[str, str] = {
    "macs": "multiply-accumulates of convolutions, linear layers, matrix products, attention, einsum and recurrent layers, for one sample; "
    "norms, biases and pointwise work excluded",
    "torchinfo": "as torchinfo counts: parameters of layer modules times output positions, for one sample; biases and norms included, "
    "attention and functional products excluded",
}


@dataclass(frozen=True)
class Cost:
    """What one network costs.

    Attributes:
        params: parameters.
        buffers: numbers in buffers (running statistics, constant tables).
        mult_adds: Mult-Adds of one sample, in the budget's convention.
        weight_bytes: bytes of parameters and buffers, by dtype.
        param_bytes: bytes of parameters alone.
        inference_bytes: activations of one sample alive at once in inference, at most; the input included, weights excluded.
        training_bytes: activations of one sample that training keeps for the backward pass.
        training_bytes_in_turn: the same where members are trained one after the other (`packed.turns()`): those of one member. A network
            without members that can be trained so keeps as much as ever.
    """

    params: int
    buffers: int
    mult_adds: int
    weight_bytes: Mapping[str, int]
    param_bytes: int
    inference_bytes: int
    training_bytes: int
    training_bytes_in_turn: int

    @property
    def total_weight_bytes(self) -> int:
        """Bytes of parameters and buffers of all dtypes."""
        return sum(self.weight_bytes.values())

    def memory_bytes(self, batch_size: int = 1) -> int:
        """Bytes for inference: weights and the activations of a batch."""
        return self.total_weight_bytes + batch_size * self.inference_bytes

    def training_memory_bytes(self, batch_size: int = 1, *, in_turn: bool = False) -> int:
        """Bytes for training: weights, gradients, Adam's two moments and the activations kept of a batch, of one member at a time if so."""
        kept = self.training_bytes_in_turn if in_turn else self.training_bytes
        return self.total_weight_bytes + 3 * self.param_bytes + batch_size * kept

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the total of `weight_bytes`."""
        return asdict(self) | {"weight_bytes": dict(self.weight_bytes), "total_weight_bytes": self.total_weight_bytes}


@dataclass(frozen=True)
class LayerCost:
    """One layer of the packed network.

    Attributes:
        name: the module's qualified name.
        kind: the operator or class.
        reference_width: outputs in the reference, or None where the layer has no width of its own.
        member_width: outputs in one member.
        width: outputs in the packed network, M times the member's.
        groups: groups of the packed convolution, or blocks of the packed linear layer; a first layer, which reads the shared input,
            has its own groups only.
        gamma: the subgroups per member that the layer really has, or None.
        params: parameters in the packed network.
        mult_adds: Mult-Adds in the packed network.
        share: of the packed network's Mult-Adds.
        reference_params: parameters in the reference.
        reference_mult_adds: Mult-Adds in the reference.
    """

    name: str
    kind: str
    reference_width: int | None
    member_width: int | None
    width: int | None
    groups: int | None
    gamma: int | None
    params: int
    mult_adds: int
    share: float
    reference_params: int
    reference_mult_adds: int


@dataclass(frozen=True)
class Budget:
    """The reference, one member, the packed network and a Deep Ensemble of M references, side by side.

    The Deep Ensemble's activations are those of one reference: its networks run, and are trained, one after the other. The packed network
    can be trained so too, see `Cost.training_bytes_in_turn`.

    Attributes:
        spec: alpha, M, gamma and the policies.
        convention: how Mult-Adds are counted.
        dtype: the floating type that bytes are given for.
        layers: the packed network layer by layer; the columns add up to `packed`.
        pins: widths that keep the reference's size, and why.
        rounded: widths that are not alpha / M times the reference's exactly.
        lowered: layers whose gamma is smaller than asked.
    """

    spec: Spec
    convention: Convention
    dtype: str
    reference: Cost
    member: Cost
    packed: Cost
    deep_ensemble: Cost
    layers: tuple[LayerCost, ...] = ()
    pins: tuple[Note, ...] = ()
    rounded: tuple[Note, ...] = ()
    lowered: tuple[Note, ...] = ()

    @property
    def params_ratio(self) -> float:
        """Parameters of the packed network over the reference's."""
        return _ratio(self.packed.params, self.reference.params)

    @property
    def mult_adds_ratio(self) -> float:
        """Mult-Adds of the packed network over the reference's."""
        return _ratio(self.packed.mult_adds, self.reference.mult_adds)

    def networks(self) -> dict[str, Cost]:
        """The four networks by name, in the order of a table."""
        return {"reference": self.reference, "member": self.member, "packed": self.packed, "deep_ensemble": self.deep_ensemble}

    def row(self) -> dict[str, Any]:
        """The packed network as one flat row, for a table or a data frame."""
        packed = self.packed
        return {
            "alpha": self.spec.alpha,
            "num_estimators": self.spec.num_estimators,
            "gamma": self.spec.gamma,
            "gamma_policy": self.spec.gamma_policy,
            "member_width": float(self.spec.ratio),
            "params": packed.params,
            "params_ratio": self.params_ratio,
            "mult_adds": packed.mult_adds,
            "mult_adds_ratio": self.mult_adds_ratio,
            "buffers": packed.buffers,
            "weight_bytes": packed.total_weight_bytes,
            "inference_bytes": packed.inference_bytes,
            "training_bytes": packed.training_bytes,
            "training_bytes_in_turn": packed.training_bytes_in_turn,
            "member_params": self.member.params,
            "member_mult_adds": self.member.mult_adds,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain, JSON-able values; every network carries its ratios to the reference."""
        networks = {}
        for name, cost in self.networks().items():
            networks[name] = cost.to_dict() | {
                "params_ratio": _ratio(cost.params, self.reference.params),
                "mult_adds_ratio": _ratio(cost.mult_adds, self.reference.mult_adds),
            }
        return {
            "spec": self.spec.to_dict(),
            "convention": self.convention,
            "dtype": self.dtype,
            **networks,
            "layers": [asdict(layer) for layer in self.layers],
            **{name: [asdict(note) for note in getattr(self, name)] for name in ("pins", "rounded", "lowered")},
        }


def _ratio(value: int, reference: int) -> float:
    return value / reference if reference else float("nan") if value else 1.0
