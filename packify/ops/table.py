"""The table: every operator that packify knows, by its one name, one row each. Users extend it, and so do packages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._library.custom_ops import CustomOpDef

from packify.capture.opaque import OpaqueAutogradFunction, OpaqueScriptFunction
from packify.capture.operators import RANDOM, operator_of
from packify.core.errors import SpecError
from packify.ops import plugins, pointwise
from packify.ops.layer_rows import LAYERS
from packify.ops.pointwise_rows import POINTWISE
from packify.ops.rule import Rule
from packify.ops.shape_rows import SHAPES
from packify.ops.user_rules import wrap_user_rules

Rows = Iterable[tuple[str, Rule]]


def table_of(*parts: Rows) -> dict[Any, Rule]:
    """Rows as a table; operators whose results are drawn anew, as recordings know them, have the trait ``random``.

    Raises:
        SpecError: an operator has two rows.
    """
    found: dict[Any, Rule] = {}
    for part in parts:
        for name, rule in part:
            if name in found:
                raise SpecError(
                    name,
                    found=f"a second row ({found[name].family}, {rule.family})",
                    why="one row says everything about an operator",
                    fix="leave one of the two out",
                )
            traits = (rule.traits or frozenset()) | ({"random"} if name in RANDOM else frozenset())
            found[name] = complete(replace(rule, traits=traits))
    return found


def complete(rule: Rule, known: Rule | None = None) -> Rule:
    """A row with what it leaves out as `known`, packify's own row of that operator, has it; a pointwise one has the rules of addition."""
    changes: dict[str, Any] = {}
    if known is not None:
        left_out = ("signature", "mult_adds", "traits")
        changes = {name: getattr(known, name) for name in left_out if getattr(rule, name) is None and getattr(known, name) is not None}
    traits = changes.get("traits", rule.traits) or frozenset()
    if "pointwise" in traits and rule.widths is None and rule.pack is None:
        changes |= {"widths": pointwise.elementwise, "pack": pointwise.pack}
    return replace(rule, **changes) if changes else rule


RULES: Mapping[Any, Rule] = table_of(POINTWISE, SHAPES, LAYERS)


def merged(rules: Mapping[Any, Rule] | None) -> Mapping[Any, Rule]:
    """The table, with installed packages' rules before it and a user's before those.

    Raises:
        SpecError: a value is not a `Rule`, or a package's rules are broken.
    """
    given = (wrap_user_rules(plugins.installed(), "packify.rules"), plugins.checked(rules or {}, "rules"))
    found = dict(RULES)
    for part in given:
        for key, rule in part.items():
            for name in names_of(key):
                found[name] = complete(rule, RULES.get(name) or _known(key))
    return found


def _known(key: Any) -> Rule | None:
    return next((RULES[name] for name in names_of(key) if name in RULES), None)


def random_operators(rules: Mapping[Any, Rule]) -> Collection[Any]:
    """The operators, by function or name, whose results are drawn anew in every call."""
    return frozenset(key for key, rule in rules.items() if "random" in (rule.traits or ()))


def names_of(key: Any) -> list[Any]:
    """What a graph may call the operator that somebody has a rule for: its function, its name, its name without the namespace."""
    if isinstance(key, str):
        return [key] if key in RULES or "::" in key else [key, f"::{key}"]
    if isinstance(key, CustomOpDef):
        return [key._qualname]
    if isinstance(key, torch.jit.ScriptFunction):
        return [OpaqueScriptFunction(key)]
    owner = getattr(key, "__self__", key)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return [OpaqueAutogradFunction(owner)]
    if isinstance(key, type) and issubclass(key, nn.Module):
        return [key.__name__]
    module = getattr(getattr(key, "__objclass__", key), "__module__", None) or "torch"
    known = isinstance(key, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)) or module.split(".")[0] in _TORCHS
    return [key, operator_of(key).name] if known else [key]


_TORCHS = ("torch", "torchvision", "_operator")
