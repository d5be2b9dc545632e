"""What packify knows about one operator: how widths travel through it, how members are packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WidthRule = Callable[..., Any]
PackRule = Callable[..., Any]
RefitRule = Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]


@dataclass(frozen=True)
class Rule:
    """The treatment of one operator.

    Attributes:
        family: the heading it is listed under.
        widths: ``(propagation, *args, **kwargs) -> dims of the output``; tensors arrive as `Axes`. None: no axis may change.
        pack: ``(builder, node, *args, **kwargs) -> packed value``. None: the operator runs once per member.
        refit: ``(args, kwargs, call) -> (args, kwargs)``: the call's constants at the member's sizes.
    """

    family: str
    widths: WidthRule | None = None
    pack: PackRule | None = None
    refit: RefitRule | None = None
