"""Rules that a user brings: wrapped so that exceptions and malformed results name the rule."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from packify.core.errors import PackError, PackifyError
from packify.nn.members import FRONT
from packify.ops.rule import Rule
from packify.packing.builder import PackedValue
from packify.widths.dims import Dim


def wrap_user_rules(rules: Any, named: str = "rules") -> Any:
    """The same rules, each of which raises an error with its name when it fails or returns what no rule may return."""
    if not isinstance(rules, Mapping):
        return rules
    return {key: _checked_rule(name_of(key, named), rule) if isinstance(rule, Rule) else rule for key, rule in rules.items()}


def name_of(key: Any, named: str = "rules") -> str:
    """How a user wrote a rule's key."""
    return f"{named}[{key!r}]" if isinstance(key, str) else f"{named}[{getattr(key, '__name__', key)}]"


def _checked_rule(name: str, rule: Rule) -> Rule:
    widths, pack, refit, mult_adds = rule.widths, rule.pack, rule.refit, rule.mult_adds
    return replace(
        rule,
        widths=widths and _checked(f"{name}.widths", widths, _are_dims, "a list of one Dim per axis of each output tensor"),
        pack=pack and _checked(f"{name}.pack", pack, _are_packed_values, "a PackedValue on an axis for each tensor"),
        refit=refit and _checked(f"{name}.refit", refit, _are_changes, "a dict of the arguments that change, {name: value}"),
        mult_adds=mult_adds and _checked(f"{name}.mult_adds", mult_adds, _is_count, "a whole number, 0 or more"),
    )


def _checked(name: str, rule: Callable[..., Any], fits: Callable[..., bool], wanted: str) -> Callable[..., Any]:
    @functools.wraps(rule)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            result = rule(*args, **kwargs)
        except PackifyError:
            raise
        except Exception as error:
            raise PackError(
                name, found=f"{type(error).__name__}: {error}", why="the rule raised it", fix="correct the rule, or leave it out"
            ) from error
        if not fits(result, *args[:2]):
            raise PackError(name, found=f"it returned {result!r:.200}", why=f"it returns {wanted}", fix="correct the rule, or leave it out")
        return result

    return checked


def _are_dims(result: Any, widths: Any, *_: Any) -> bool:
    return _matches(result, widths.out, lambda dims, tensor: _are(dims, tensor.dim()) and all(isinstance(dim, Dim) for dim in dims))


def _are_packed_values(result: Any, builder: Any, node: Any) -> bool:
    return _matches(
        result,
        node.meta["val"],
        lambda made, tensor: isinstance(made, PackedValue) and (made.axis in (None, FRONT) or 0 <= made.axis < tensor.dim()),
    )


def _are_changes(result: Any, *_: Any) -> bool:
    return isinstance(result, Mapping) and all(isinstance(name, str) for name in result)


def _is_count(result: Any, *_: Any) -> bool:
    return isinstance(result, int) and not isinstance(result, bool) and result >= 0


def _matches(result: Any, value: Any, fits: Callable[[Any, Tensor], bool]) -> bool:
    """A result for every tensor of the value."""
    if isinstance(value, Tensor):
        return fits(result, value)
    if isinstance(value, (tuple, list)):
        return _are(result, len(value)) and all(_matches(one, item, fits) for one, item in zip(result, value, strict=True))
    return True


def _are(result: Any, count: int) -> bool:
    return isinstance(result, (tuple, list)) and len(result) == count
