"""The three numbers of a Packed-Ensemble, PE-(alpha, M, gamma), and the policies around them, as one frozen value."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from packify.core.errors import SpecError

GammaPolicy = Literal["paper", "uniform"]
Unused = Literal["drop", "keep"]
Factor = Literal["scale", "keep"]
# What becomes of the numbers in a network's code: a word for all of them, or a word or number by node.
Constants = Literal["follow", "keep"] | Mapping[str, str | float] | tuple[tuple[str, str | float], ...]


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
        unused: parameters that forward never reads are left out (``"drop"``), or kept at the reference's size in every member (``"keep"``).
        constants: ``"follow"``: numbers in the code that were computed from a width follow it; ``"keep"``: they stay; or one of these
            words, or the number itself, by the name of a node or module of the report (other numbers follow).
        heads: ``"scale"``: attention has fewer heads of the same size where alpha / M times their number is whole; ``"keep"``: as many
            smaller ones.
        groups: ``"keep"``: a grouped conv has as many smaller groups; ``"scale"``: fewer groups of the same size, where that is whole.

    Raises:
        SpecError: a value is not a number of the kind and range that it must have.
    """

    alpha: float
    num_estimators: int
    gamma: int = 1
    gamma_policy: GammaPolicy = "paper"
    min_channels_per_group: int = 64
    round_to: int = 1
    unused: Unused = "drop"
    constants: Constants = "follow"
    heads: Factor = "scale"
    groups: Factor = "keep"

    def __post_init__(self) -> None:
        alpha: Any = self.alpha
        if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real) or not math.isfinite(alpha) or alpha <= 0:
            raise SpecError(
                "alpha",
                found=repr(alpha),
                why="alpha multiplies every hidden width, so it must be a positive, finite number",
                fix="pass for example alpha=2",
            )
        object.__setattr__(self, "alpha", self.alpha if type(self.alpha) is int else float(self.alpha))
        for name in ("num_estimators", "gamma", "min_channels_per_group", "round_to"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if self.gamma_policy not in get_args(GammaPolicy):
            raise SpecError(
                "gamma_policy",
                found=repr(self.gamma_policy),
                why=f"the known policies are {', '.join(map(repr, get_args(GammaPolicy)))}",
                fix='pass gamma_policy="paper"',
            )
        if self.unused not in get_args(Unused):
            raise SpecError(
                "unused",
                found=repr(self.unused),
                why="parameters that forward never reads are dropped or kept",
                fix='pass unused="drop" or unused="keep"',
            )
        for name, what in (("heads", "heads of attention"), ("groups", "groups of a conv")):
            if getattr(self, name) not in get_args(Factor):
                raise SpecError(
                    name,
                    found=repr(getattr(self, name)),
                    why=f"the number of {what} scales and their size stays, or the other way round",
                    fix=f'pass {name}="scale" or {name}="keep"',
                )
        object.__setattr__(self, "constants", checked_constants(self.constants))

    @property
    def ratio(self) -> Fraction:
        """Member width over reference width, alpha / M, as an exact fraction."""
        return exact(self.alpha) / self.num_estimators

    def with_members(self, members: int) -> Spec:
        """The spec of so many members of the same width: alpha scales with M."""
        return replace(self, alpha=number(self.ratio * members), num_estimators=members)

    def of_one_member(self) -> tuple[object, ...]:
        """What decides a member: alpha and M matter only by their ratio, the policy of gamma only with a gamma."""
        gamma = (self.gamma, self.gamma_policy, self.min_channels_per_group) if self.gamma > 1 else ()
        return self.ratio, self.round_to, gamma, self.constants, self.unused, self.heads, self.groups

    @property
    def label(self) -> str:
        """A short name such as ``a2-M4-g2``."""
        return f"a{self.alpha:g}-M{self.num_estimators}-g{self.gamma}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON-able dict."""
        return {**asdict(self), "constants": self.constants if isinstance(self.constants, str) else dict(self.constants)}

    @classmethod
    def from_dict(cls, values: object) -> Spec:
        """The inverse of `to_dict`. Unknown keys are refused; what says nothing of heads and groups was written when both were kept."""
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not {"alpha", "num_estimators"} <= set(values) <= known:
            raise SpecError(
                "spec", found=repr(values), why=f"a spec has the fields {', '.join(sorted(known))}", fix="pass Spec.to_dict()'s output"
            )
        return cls(**{"heads": "keep", "groups": "keep", **values})


def checked_constants(value: Any) -> Literal["follow", "keep"] | tuple[tuple[str, str | float], ...]:
    """`value` as a word, or as sorted pairs of a name and a word or number.

    Raises:
        SpecError: it is neither.
    """
    if value == "follow" or value == "keep":
        return value  # type: ignore[no-any-return]
    pairs = value.items() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else None
    if pairs is not None and all(isinstance(pair, (tuple, list)) and len(pair) == 2 and _is_choice(*pair) for pair in pairs):
        return tuple(sorted((name, choice if isinstance(choice, str) else float(choice)) for name, choice in pairs))
    raise SpecError(
        "constants",
        found=repr(value),
        why="numbers that were computed from a width follow it or keep the reference's value, all of them or by the name of a node",
        fix='pass constants="follow", constants="keep" or constants={"blocks.0.attn": "keep"}',
    )


def _is_choice(name: object, choice: object) -> bool:
    if isinstance(choice, (int, float)) and type(choice) is not bool:
        return isinstance(name, str) and math.isfinite(choice)
    return isinstance(name, str) and choice in ("follow", "keep")


# Fractions of smaller denominators differ by more than neighbouring floats do, so a float stands for one of them at most.
_LARGEST_DENOMINATOR = 10**6


def exact(value: float) -> Fraction:
    """The fraction that a number stands for: 0.1 is 1/10, 0.6666666666666666 is 2/3, and sqrt(2) the decimal that Python prints."""
    near = Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)
    return near if float(near) == value else Fraction(str(value))


def number(value: Fraction) -> float:
    """A fraction as the number that `exact` reads it from; whole ones as an int."""
    return value.numerator if value.denominator == 1 else float(value)


def whole_number(name: str, value: Any, least: int = 1, below: float = math.inf) -> int:
    """`value` as an int, whatever library's whole number it is.

    Raises:
        SpecError: it is no whole number, or out of range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or not least <= number < below:
        raise SpecError(
            "num_estimators (M)" if name == "num_estimators" else name,
            found=repr(value),
            why=f"it must be a whole number of at least {least}" + (f", below {below}" if number >= below else ""),
            fix=f"pass for example {name}=2",
        )
    return number
