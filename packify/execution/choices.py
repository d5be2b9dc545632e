"""What tuning has found, keyed by what it was measured on: device, dtype, threads, mode and a range of batches."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor

_LONGEST = 200
_MOST_PARTS = 10_000
_TEXTS = ("device", "dtype", "mode", "strategy", "memory_format")
Mode = Literal["infer", "train"]


@dataclass(frozen=True)
class Choice:
    """The fastest strategy for some calls.

    Attributes:
        device: its type and name, such as ``"cpu AVX2"``.
        dtype: of the inputs, or of autocast where that is on.
        threads: of torch, on a CPU; 0 elsewhere.
        mode: ``"infer"``, or ``"train"`` with a backward pass.
        batch: that was measured.
        batch_low, batch_high: the batches that it is taken for.
        strategy: the fastest.
        memory_format: that the network had then.
        parts: the strategies of parts that have their own, by dotted name.
    """

    device: str
    dtype: str
    threads: int
    mode: Mode
    batch: int
    batch_low: int
    batch_high: int
    strategy: str
    memory_format: str
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "parts" or value}

    @classmethod
    def from_dict(cls, values: Any, strategies: Sequence[str], formats: Sequence[str]) -> Choice:
        """The inverse of `to_dict`, for values that anybody may have written.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        if not isinstance(values, dict) or set(values) | {"parts"} != {one.name for one in fields(cls)}:
            raise ValueError("a choice has exactly its own fields")
        parts = parts_from(values.get("parts", {}))
        for name, value in values.items():
            if name == "parts":
                continue
            fits = isinstance(value, str) and len(value) <= _LONGEST if name in _TEXTS else type(value) is int and value >= 0
            if not fits:
                raise ValueError(f"{name}: {value!r:.80}")
        for name, known in (("mode", get_args(Mode)), ("strategy", strategies), ("memory_format", formats)):
            if values[name] not in known:
                raise ValueError(f"{name}: {values[name]!r:.80}")
        return cls(**{**values, "parts": parts})


def parts_from(values: Any) -> dict[str, str]:
    """Strategies of parts by dotted name, from values that anybody may have written.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(values, dict) or len(values) > _MOST_PARTS:
        raise ValueError(f"parts: {values!r:.80}")
    for path, name in values.items():
        if not isinstance(path, str) or len(path) > _LONGEST or name not in ("grouped", "in turn"):
            raise ValueError(f"parts: {path!r:.80}: {name!r:.80}")
    return dict(values)


def nearest(choices: Sequence[Choice], device: torch.device, inputs: Sequence[Tensor], *, training: bool) -> Choice | None:
    """The choice that was measured for calls like this, at the batch that is nearest to its own; None where there is none."""
    key = key_of(device, inputs, train=training)
    batch = next((int(one.shape[0]) for one in inputs if one.dim()), 1)
    fitting = [one for one in choices if (one.device, one.dtype, one.threads, one.mode) == key and one.batch_low <= batch <= one.batch_high]
    return min(fitting, key=lambda one: abs(math.log(max(batch, 1) / max(one.batch, 1))), default=None)


def key_of(device: torch.device, inputs: Sequence[Tensor], *, train: bool) -> tuple[str, str, int, str]:
    """Device, dtype, threads and mode of a call."""
    dtype = next((one.dtype for one in inputs if one.is_floating_point()), torch.float32)
    if device.type in ("cpu", "cuda") and torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    return device_name(device), str(dtype).removeprefix("torch."), threads, "train" if train else "infer"


def device_name(device: torch.device) -> str:
    """The type and name of a device: ``"cpu AVX2"``, ``"cuda NVIDIA H100"``."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return f"{device.type} {platform.machine()}"


def merged(old: Sequence[Choice], new: Choice) -> tuple[Choice, ...]:
    """The choices with a new one, in the place of one that was measured for the same."""

    def same(one: Choice) -> bool:
        return (one.device, one.dtype, one.threads, one.mode, one.batch) == (new.device, new.dtype, new.threads, new.mode, new.batch)

    return (*(one for one in old if not same(one)), new)
