"""The settings of the ensembles whose members share weights: BatchEnsemble, Masksembles and MIMO, each one frozen value."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self, get_args

from packify.core.errors import SpecError
from packify.core.spec import whole_number

Norms = Literal["shared", "member"]
Factors = Literal["normal", "signs"]
MaskedAt = Literal["inputs", "outputs"]

MAX_SCALE = 6.0
"""The largest scale of Masksembles: above it members have next to nothing in common."""


@dataclass(frozen=True)
class MethodSpec:
    """What every such ensemble has.

    Attributes:
        num_estimators: M, at least 2.
        method: the name of the method, as ``packify convert --method`` takes it.

    Raises:
        SpecError: M is no whole number of at least 2.
    """

    num_estimators: int
    method: ClassVar[str] = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_estimators", several(self.num_estimators))

    @property
    def label(self) -> str:
        """A short name such as ``batch-ensemble-M4``."""
        return f"{self.method}-M{self.num_estimators}"

    def to_dict(self) -> dict[str, Any]:
        """The fields and the method as a JSON-able dict."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"method": self.method, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            SpecError: a field is missing, unknown or out of range.
        """
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in values.items() if name != "method"}
        if set(given) != known:
            raise SpecError(
                f"the settings of {cls.method}",
                found=repr(dict(values)),
                why=f"they are {', '.join(sorted(known))}",
                fix="pass what to_dict() gave",
            )
        return cls(**given)


@dataclass(frozen=True)
class BatchEnsembleSpec(MethodSpec):
    """BatchEnsemble (Wen et al., ICLR 2020): ``y = s_m * W (r_m * x) + b_m`` in every layer, W shared.

    Attributes:
        norms: ``"shared"``, or ``"member"`` for norms whose parameters and statistics are each member's own.
        factors: r and s start as ``"normal"``, N(1, 0.5), or as random ``"signs"``, 1 or -1.
        layers: patterns of the names of the layers that get factors, ``"layer4.*"``, or with a ``!`` of those that get none; empty: all.
    """

    norms: Norms = "shared"
    factors: Factors = "normal"
    layers: tuple[str, ...] = ()
    method: ClassVar[str] = "batch-ensemble"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("norms", self.norms, get_args(Norms), "norms are shared by all members, or each member has its own")
        one_of("factors", self.factors, get_args(Factors), "r and s are drawn from N(1, 0.5), or as random signs")
        object.__setattr__(self, "layers", patterns(self.layers))


@dataclass(frozen=True)
class MasksemblesSpec(MethodSpec):
    """Masksembles (Durasov et al., CVPR 2021): fixed binary masks, one per member, on the channels that layers read.

    Attributes:
        scale: from 1 (all masks equal, nothing masked) to 6; the larger, the less members have in common.
        masked: ``"inputs"``: what each conv and linear but the first reads; ``"outputs"``: what each but the last makes.
        layers: as for `BatchEnsembleSpec`.
        seed: of the masks.
    """

    scale: float = 2.0
    masked: MaskedAt = "inputs"
    layers: tuple[str, ...] = ()
    seed: int = 0
    method: ClassVar[str] = "masksembles"

    def __post_init__(self) -> None:
        super().__post_init__()
        scale = number_between("scale", self.scale, 1.0, MAX_SCALE, "a mask keeps about 1 / scale of the channels that any mask keeps")
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "seed", whole_number("seed", self.seed, 0, 2**63))
        one_of("masked", self.masked, get_args(MaskedAt), "masks are on what layers read, or on what they make")
        object.__setattr__(self, "layers", patterns(self.layers))

    @property
    def label(self) -> str:
        """A short name such as ``masksembles-M4-s2``."""
        return f"{super().label}-s{self.scale:g}"


@dataclass(frozen=True)
class MimoSpec(MethodSpec):
    """MIMO (Havasi et al., ICLR 2021): the first layer reads M inputs side by side, the last makes M outputs; the rest is one network.

    Attributes:
        rho: the probability that a row of a training batch holds one sample for all members, see `packify.mimo_batch`.
        batch_repetitions: how often a training batch repeats every sample.
    """

    rho: float = 0.5
    batch_repetitions: int = 4
    method: ClassVar[str] = "mimo"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rho", probability("rho", self.rho))
        object.__setattr__(self, "batch_repetitions", whole_number("batch_repetitions", self.batch_repetitions))


METHOD_SPECS: Mapping[str, type[MethodSpec]] = {kind.method: kind for kind in (BatchEnsembleSpec, MasksemblesSpec, MimoSpec)}
"""The settings' types by the names of the methods."""

METHOD_TITLES: Mapping[str, tuple[str, str]] = {
    "batch-ensemble": ("a BatchEnsemble", "[Wen et al., ICLR 2020](https://arxiv.org/abs/2002.06715)"),
    "masksembles": ("Masksembles", "[Durasov et al., CVPR 2021](https://arxiv.org/abs/2012.08334)"),
    "mimo": ("a MIMO network", "[Havasi et al., ICLR 2021](https://arxiv.org/abs/2010.06610)"),
}
"""What people call the methods, and where they come from."""


def several(members: Any) -> int:
    """`members` as a number of members of an ensemble.

    Raises:
        SpecError: it is no whole number of at least 2.
    """
    count = whole_number("num_estimators", members)
    if count < 2:
        raise SpecError(
            "num_estimators (M)",
            found=repr(members),
            why="one member is no ensemble: there is nothing that it differs from",
            fix="pass for example num_estimators=4",
        )
    return count


def patterns(value: Any) -> tuple[str, ...]:
    """One pattern or several as a tuple; None is none.

    Raises:
        SpecError: they are no texts.
    """
    given = () if value is None else (value,) if isinstance(value, str) else value
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(pattern, str) and pattern.strip("!") for pattern in found):
        raise SpecError(
            "layers",
            found=repr(value),
            why="layers are chosen by patterns of their names",
            fix='pass layers="layer4.*" or layers="!*.se.*"',
        )
    return found


def probability(name: str, value: Any) -> float:
    """`value` as a probability.

    Raises:
        SpecError: it is none.
    """
    return number_between(name, value, 0.0, 1.0, "it is the share of samples that all members see at once")


def number_between(name: str, value: Any, least: float, most: float, why: str) -> float:
    """`value` as a number of a closed range.

    Raises:
        SpecError: it is no number, or out of range.
    """
    is_number = not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)
    if not is_number or not least <= value <= most:
        raise SpecError(
            name,
            found=repr(value),
            why=f"{why}, so it is a number from {least:g} to {most:g}",
            fix=f"pass for example {name}={most / 2 or 1:g}",
        )
    return float(value)


def one_of(name: str, value: Any, words: tuple[str, ...], why: str) -> None:
    """Refuse a word that is none of these.

    Raises:
        SpecError: it is not.
    """
    if value not in words:
        raise SpecError(name, found=repr(value), why=why, fix=" or ".join(f'{name}="{word}"' for word in words))
