"""Rules that installed packages bring along, by the entry-point group ``packify.rules``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from packify.core.errors import SpecError
from packify.ops.rule import Rule

GROUP = "packify.rules"


@functools.cache
def installed() -> Mapping[Any, Rule]:
    """The rules of every installed package: each entry point is a dict of them, or a callable that returns one.

    Raises:
        SpecError: an entry point cannot be loaded, brings something else, or two bring a rule for one operator.
    """
    rules: dict[Any, Rule] = {}
    owners: dict[Any, str] = {}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        where = f"entry point {entry.name} = {entry.value!r}{_of_package(entry)}"
        for key, rule in checked(_loaded(entry, where), where).items():
            if key in owners:
                raise SpecError(
                    where,
                    found=f"a second rule for {key!r}; {owners[key]} has one too",
                    why="which of two rules holds must not depend on the order of installation",
                    fix=f"uninstall one of the two packages, or settle it with rules={{{key!r}: ...}}",
                )
            owners[key], rules[key] = where, rule
    return rules


def checked(rules: Any, where: str) -> Mapping[Any, Rule]:
    """`rules` if it is a mapping from operators to `Rule`.

    Raises:
        SpecError: it is not.
    """
    if not isinstance(rules, Mapping):
        raise SpecError(
            where,
            found=f"a {type(rules).__name__}",
            why="rules are a mapping from operator to packify.Rule",
            fix="{operator: packify.Rule(family, ...)}",
        )
    for key, rule in rules.items():
        if not (isinstance(key, str) or callable(key)):
            raise SpecError(
                f"{where}[{key!r}]",
                found=f"a key of type {type(key).__name__}",
                why="an operator is known by its function or its name",
                fix='use the function itself or a name that "packify ops" lists',
            )
        if not isinstance(rule, Rule):
            raise SpecError(
                f"{where}[{key!r}]",
                found=f"a {type(rule).__name__}",
                why="a rule says how widths travel and how members are packed",
                fix="pass packify.Rule(family, widths=..., pack=...)",
            )
    return rules


def _loaded(entry: metadata.EntryPoint, where: str) -> Any:
    try:
        found = entry.load()
        return found() if callable(found) and not isinstance(found, Mapping) else found
    except Exception as error:
        raise SpecError(
            where,
            found=f"{type(error).__name__}: {error}",
            why=f"packify reads the rules of every installed package that announces some under {GROUP!r}",
            fix="repair, upgrade or uninstall that package",
        ) from error


def _of_package(entry: metadata.EntryPoint) -> str:
    return f" of {entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
