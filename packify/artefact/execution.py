"""How a packed network is run, as an artefact keeps it: strategy, memory format, and what tuning has found on which device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from packify.artefact.config import CONFIG_FILE, read_config
from packify.core.errors import ArtefactError, SpecError
from packify.execution.choices import Choice, parts_from
from packify.execution.formats import FORMATS, format_of, to_format
from packify.execution.running import Execution
from packify.execution.strategies import AUTO, STRATEGIES
from packify.nn.packed_network import PackedNetwork

_MOST_CHOICES = 1000


def execution_of(packed: PackedNetwork) -> dict[str, Any]:
    """What is kept of how `packed` is run."""
    choices = packed.executor.choices if isinstance(packed.executor, Execution) else ()
    own = {"strategy": packed.strategy, "memory_format": format_of(packed), "choices": [choice.to_dict() for choice in choices]}
    return own | ({"parts": packed.strategies} if packed.strategies else {})


def restore_execution(packed: PackedNetwork, values: Mapping[str, Any], where: str) -> None:
    """Let a network that was loaded be run as it was saved; an artefact of an older format says nothing about it.

    Raises:
        ArtefactError: `values` are none that packify writes.
    """
    if not values or not isinstance(packed.executor, Execution):
        return
    try:
        if set(values) - {"parts"} != {"strategy", "memory_format", "choices"} or not isinstance(values["choices"], list):
            raise ValueError("strategy, memory_format and choices")
        if values["strategy"] not in (AUTO, *(packed.suited_strategies or STRATEGIES)) or values["memory_format"] not in FORMATS:
            raise ValueError(f"{values['strategy']!r:.80}, {values['memory_format']!r:.80}")
        choices = tuple(Choice.from_dict(one, list(STRATEGIES), list(FORMATS)) for one in values["choices"][:_MOST_CHOICES])
        parts = parts_from(values.get("parts", {}))
        packed.executor.strategy, packed.executor.choices = values["strategy"], choices
        packed.strategies = parts
    except (ValueError, TypeError, SpecError) as error:
        why = "the field has a value that packify never writes"
        fix = "the file was damaged or edited: get a fresh copy of the artefact"
        raise ArtefactError(f"{where}: execution", found=str(error), why=why, fix=fix) from error
    to_format(packed, values["memory_format"])


def keep_execution(packed: PackedNetwork, folder: str | Path) -> None:
    """Write into an artefact how `packed`, which was loaded from it, is run now; its weights stay as they are.

    Raises:
        ArtefactError: there is no artefact, or it may not be written.
    """
    path = Path(folder) / CONFIG_FILE
    config = replace(read_config(folder), execution=execution_of(packed))
    fresh = path.with_name(f".{CONFIG_FILE}.{os.getpid()}")
    try:
        fresh.write_text(config.to_json(), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ArtefactError(str(path), found=str(error), why="it cannot be written", fix="check its permissions") from error
