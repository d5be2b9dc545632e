"""The three numbers of a Packed-Ensemble, PE-(alpha, M, gamma), and the policies around them, as one frozen value."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, Literal, get_args

from packify.errors import SpecError

GammaPolicy = Literal["paper", "uniform"]


@dataclass(frozen=True)
class Spec:
    """PE-(alpha, M, gamma) (Laurent et al., ICLR 2023, section 3).

    Attributes:
        alpha: expansion factor, any positive number.
        num_estimators: M, the number of members.
        gamma: subgroups inside each member's convs and linears.
        gamma_policy: ``"paper"`` as the published models do, ``"uniform"`` on every layer but the first and the last.
        min_channels_per_group: the ``paper`` policy lowers gamma until a group holds at least this many channels.
        round_to: every hidden width of a member is a multiple of this many channels.

    Raises:
        SpecError: a value is not a number of the kind and range that it must have.
    """

    alpha: float
    num_estimators: int
    gamma: int = 1
    gamma_policy: GammaPolicy = "paper"
    min_channels_per_group: int = 64
    round_to: int = 1

    def __post_init__(self) -> None:
        if not _is_number(self.alpha) or not math.isfinite(self.alpha) or self.alpha <= 0:
            raise SpecError(
                "alpha",
                found=repr(self.alpha),
                why="alpha multiplies every hidden width, so it must be a positive, finite number",
                fix="pass for example alpha=2",
            )
        for name in ("num_estimators", "gamma", "min_channels_per_group", "round_to"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                label = "num_estimators (M)" if name == "num_estimators" else name
                raise SpecError(label, found=repr(value), why="it must be a whole number of at least 1", fix=f"pass for example {name}=2")
        if self.gamma_policy not in get_args(GammaPolicy):
            raise SpecError(
                "gamma_policy",
                found=repr(self.gamma_policy),
                why=f"the known policies are {', '.join(map(repr, get_args(GammaPolicy)))}",
                fix='pass gamma_policy="paper"',
            )

    @property
    def ratio(self) -> Fraction:
        """Member width over reference width, alpha / M."""
        return Fraction(str(self.alpha)) / self.num_estimators

    @property
    def label(self) -> str:
        """A short name such as ``a2-M4-g2``."""
        return f"a{self.alpha:g}-M{self.num_estimators}-g{self.gamma}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON-able dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Spec:
        """The inverse of `to_dict`. Unknown keys are refused."""
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not {"alpha", "num_estimators"} <= set(values) <= known:
            raise SpecError(
                "spec", found=repr(values), why=f"a spec has the fields {', '.join(sorted(known))}", fix="pass Spec.to_dict()'s output"
            )
        return cls(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
