"""What packify knows about one operator: its arguments, how widths travel through it, how members are packed, what it costs, its traits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from packify.capture.signatures import Signature, parsed
from packify.core.errors import SpecError

WidthRule = Callable[..., Any]
PackRule = Callable[..., Any]
RefitRule = Callable[..., dict[str, Any]]
MultAdds = Callable[..., int]

TRAITS = {
    "pointwise": "treats every element alike: without rules of its own it has those of addition",
    "random": "its result is drawn anew in every call: each member draws its own",
    "layer": "multiplies by a weight and sums: its widths are in the report, and gamma cuts it into subgroups",
    "weighted": "multiplies by a weight and sums, and is never cut by gamma",
    "product": "multiplies two tensors of which either may be a weight",
    "transparent": "between a residual stream and a layer it changes nothing about who reads the stream (paper's gamma policy)",
    "hands_on": "an output behind it is averaged as if it were not there",
    "not_logits": "what it makes is a probability, a bounded value or a feature: members are averaged by their mean",
    "flattens": "without an axis it works on all elements at once",
    "created": "makes a tensor from numbers alone",
}
"""The words for what an operator is, each with what follows from it."""


@dataclass(frozen=True)
class Rule:
    """The treatment of one operator.

    Rules are called with the arguments of `signature`, defaults filled in: by name where their parameters have these names, else by
    position in its order. An argument that a rule does not read may be left out where it has its default, by name always.

    Attributes:
        family: the heading it is listed under.
        widths: ``(propagation, *arguments) -> dims of the output``; tensors arrive as `Axes`. None: no axis may change.
        pack: ``(builder, node, *arguments) -> packed value``. None: the operator runs once per member.
        refit: ``(call, *arguments) -> {name: value}``: those of the call's constants that the member has others of.
        signature: ``"input, weight, bias=None, *, groups=1"``, which all ways to call the operator share; ``*names`` stands for any
            number of tensors. None: that of packify's own row for the operator, else that of each function as Python or torch has it.
        mult_adds: ``(output, *arguments) -> Mult-Adds``, of meta tensors; for a module that is kept whole ``(output, module,
            *arguments)``. None: as packify's own row, else 0 for an operator, and what its operators need for a module.
        traits: words of `TRAITS`. None: those of packify's own row.

    Raises:
        SpecError: a trait is unknown, or the signature cannot be read, or is not that of a layer that claims to be one.
    """

    family: str
    widths: WidthRule | None = None
    pack: PackRule | None = None
    refit: RefitRule | None = None
    signature: Any = None
    mult_adds: MultAdds | None = None
    traits: Any = None

    def __post_init__(self) -> None:
        if not (self.signature is None or isinstance(self.signature, Signature)):
            object.__setattr__(self, "signature", self._parsed())
        if self.traits is not None:
            object.__setattr__(self, "traits", self._checked_traits())

    def _parsed(self) -> Signature:
        try:
            return parsed(self.signature)
        except (TypeError, ValueError) as error:
            raise SpecError(
                f"packify.Rule({self.family!r}).signature",
                found=repr(self.signature)[:200],
                why="a signature is written as the parameters of a Python function",
                fix='pass signature="input, weight, bias=None"',
            ) from error

    def _checked_traits(self) -> frozenset[str]:
        given = self.traits.split() if isinstance(self.traits, str) else self.traits
        words = frozenset(given) if isinstance(given, Iterable) else frozenset((given,))
        unknown = sorted(map(str, words - TRAITS.keys()))
        if unknown:
            raise SpecError(
                f"packify.Rule({self.family!r}).traits",
                found=", ".join(unknown),
                why=f"an operator's traits are among {', '.join(TRAITS)}",
                fix='pass traits={"random"}, or leave them out',
            )
        needed = _NEEDED.get(next(iter(words & _NEEDED.keys()), ""), "").split()
        missing = [name for name in needed if self.signature is None or name not in self.signature.names]
        if missing:
            raise SpecError(
                f"packify.Rule({self.family!r}).signature",
                found=f"no argument {', '.join(missing)} in ({self.signature or ''})",
                why=f"an operator with the trait {', '.join(words & _NEEDED.keys())} is asked for {', '.join(needed)}",
                fix=f'pass signature="{", ".join(needed)}", with the names that the operator itself has, or leave the trait out',
            )
        return words


# What is read of an operator with that trait.
_NEEDED = {"layer": "input weight groups", "weighted": "weight"}
