"""What packify remembers of a reference: where it came from, and the network itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from packify.core.errors import SourceError

if TYPE_CHECKING:
    import torch
    from torch import nn

Kind = Literal["timm", "torchvision", "file", "module"]
REGISTRIES: tuple[Kind, ...] = ("timm", "torchvision")
REGISTRY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")

# A builder's arguments that could make it read or fetch weights: never passed on, wherever they come from.
_WEIGHTS_PREFIXES = ("pretrained", "weights", "checkpoint", "cache")
_MAX_NESTING = 8
_MOST_CHANNELS = 1024
_MAX_WHOLE_NUMBER = 2**40


@dataclass(frozen=True)
class Source:
    """The name and the arguments that a reference was built from.

    Attributes:
        kind: which builder knows the name; ``"file"`` and ``"module"`` are a user's own factories.
        name: ``"resnet50"`` for a registry, ``"path/to/file.py:factory"`` or ``"package.module:factory"`` otherwise.
        args: the keyword arguments that the builder was called with.
        mean, std: how the images that its published weights were trained on were normalised, one number per channel; None where members
            do not come from such weights.
    """

    kind: Kind
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def rebuildable(self) -> bool:
        """Whether the name alone is enough to build the reference again without running a user's code."""
        return self.kind in REGISTRIES

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON-able dict; arguments that JSON cannot hold (a user's objects) are given as their repr."""
        plain = {"kind": self.kind, "name": self.name, "args": {key: _as_json(value) for key, value in self.args.items()}}
        normalised = {"mean": self.mean, "std": self.std}
        return plain | {key: list(value) for key, value in normalised.items() if value is not None}

    @classmethod
    def from_dict(cls, values: object) -> Source:
        """The inverse of `to_dict`, for values that anybody may have written.

        Raises:
            SourceError: a field is missing, unknown, or of a type or range that no builder takes.
        """
        if not isinstance(values, dict) or set(values) - {"mean", "std"} != {"kind", "name", "args"}:
            raise _unreadable(values, "a source has the fields kind, name and args, perhaps mean and std, and no others")
        kind, name, args = values["kind"], values["name"], values["args"]
        if kind not in get_args(Kind):
            raise _unreadable(kind, f"the kinds of source are {', '.join(get_args(Kind))}")
        if not isinstance(name, str) or not 0 < len(name) <= 1000 or not name.isprintable():
            raise _unreadable(name, "a source's name is a short text")
        if kind in REGISTRIES and not REGISTRY_NAME.fullmatch(name):
            raise _unreadable(name, f"a name of {kind} holds only letters, digits, '_', '-' and '.'")
        if not isinstance(args, dict):
            raise _unreadable(args, "a source's arguments are an object")
        checked = {key: checked_value(key, value) for key, value in args.items()}
        if kind in REGISTRIES:
            refuse_weights(name, checked)
        return cls(kind, name, checked, *(_per_channel(values.get(key), positive=key == "std") for key in ("mean", "std")))


@dataclass(frozen=True)
class Reference:
    """A reference network, where it came from, and what to feed it.

    Attributes:
        model: the network, with freshly initialised weights, or with published ones where these were asked for.
        source: the name and arguments that build it again.
        input_size: shape of one input without its batch axis, ``"c h w"`` for images; None when nobody said.
        example_inputs: inputs that the user's factory offers itself (for several inputs, or whole numbers); None otherwise.
    """

    model: nn.Module
    source: Source
    input_size: tuple[int, ...] | None = None
    example_inputs: Any = None

    def example(self, batch: int = 2, device: torch.device | str = "cpu") -> Any:
        """Inputs to trace the network with: the factory's own, or random numbers of shape ``"batch *input_size"``.

        Raises:
            SourceError: nobody said what the input looks like.
        """
        import torch
        from torch.utils import _pytree

        if self.example_inputs is not None:
            move = lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf  # noqa: E731 - one expression, used once
            return _pytree.tree_map(move, self.example_inputs)
        if self.input_size is None:
            raise SourceError(
                self.source.name,
                found="no input size",
                why="the network is recorded by running it once, so the shape of its input must be known",
                fix="pass --input-size, for example --input-size 3x224x224, or give the factory an attribute input_size = (3, 224, 224)",
            )
        floating = (parameter.dtype for parameter in self.model.parameters() if parameter.is_floating_point())
        generator = None if torch.device(device).type == "meta" else torch.Generator(device).manual_seed(0)
        return torch.randn(batch, *self.input_size, dtype=next(floating, torch.float32), device=device, generator=generator)


def checked_value(key: object, value: Any, nesting: int = 0) -> Any:
    """`value` with lists as tuples, if it is plain data of a sensible size."""
    if not isinstance(key, str) or not key.isidentifier():
        raise _unreadable(key, "an argument's name is a Python identifier")
    if nesting > _MAX_NESTING:
        raise _unreadable(key, f"arguments nest at most {_MAX_NESTING} deep")
    if value is None or isinstance(value, (bool, float, str)):
        return value
    if isinstance(value, int) and abs(value) <= _MAX_WHOLE_NUMBER:
        return value
    if isinstance(value, (list, tuple)):
        return tuple(checked_value(key, item, nesting + 1) for item in value)
    if isinstance(value, dict):
        return {inner: checked_value(inner, item, nesting + 1) for inner, item in value.items()}
    raise _unreadable(f"{key}={value!r:.80}", "an argument is a number, a text, true, false, null, or a list or object of these")


def refuse_weights(name: str, args: Mapping[str, Any]) -> None:
    """Raise if a registry's builder would be asked for weights."""
    for key in args:
        if key.startswith(_WEIGHTS_PREFIXES):
            raise SourceError(
                name,
                found=f"the argument {key}",
                why="packify builds references without weights: nothing is fetched, and no checkpoint is unpickled",
                fix=f"leave {key} out, or load the weights yourself and call packify.pack(model, ...)",
            )


def _per_channel(value: Any, *, positive: bool) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = list(value) if isinstance(value, (list, tuple)) else []
    plain = all(type(number) in (int, float) and math.isfinite(number) and (number > 0 or not positive) for number in numbers)
    if not 0 < len(numbers) <= _MOST_CHANNELS or not plain:
        raise _unreadable(value, "a mean or std is a number per channel")
    return tuple(float(number) for number in numbers)


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    return repr(value)


def _unreadable(found: object, why: str) -> SourceError:
    return SourceError("source", found=f"{found!r:.200}", why=why, fix="pass what Source.to_dict() gave")
