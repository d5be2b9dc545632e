"""From a name to a reference network."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import nn

from packify.core.errors import SourceError
from packify.sources.factories import Factory, find_factory
from packify.sources.names import parse_name
from packify.sources.observing import observe_build
from packify.sources.registries import registry_of
from packify.sources.registry import Registry, Wanted
from packify.sources.source import REGISTRIES, Kind, Reference, Source, checked_value, refuse_weights

_UNEXPECTED_KEYWORD = re.compile(r"unexpected keyword argument(?:\(s\):)? \[?'(\w+)'")


def resolve(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    input_size: tuple[int, ...] | None = None,
    args: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    pretrained: bool = False,
) -> Reference:
    """The reference network that `name` spells, with everything needed to build it again.

    Args:
        name: a timm name (``resnet50``, ``timm:resnet50``), ``torchvision:resnet50``, ``path/to/file.py:factory`` or
            ``package.module:factory``. A plain name is looked up in timm, then in torchvision.
        num_classes: size of the output, where the builder has an argument for it.
        in_chans: channels of the input, where the builder has an argument for it.
        input_size: shape of one input without the batch axis, ``"c h w"`` for images.
        args: further keyword arguments for the builder.
        device: ``"meta"`` builds without allocating a weight; None is torch's default device, so ``with torch.device("meta")`` works too.

        pretrained: with timm's published weights, which are fetched if they are not there.

    Raises:
        SourceError: the name is unknown or refused, the builder cannot do what is asked or raises, or weights cannot be had.
    """
    kind, plain = parse_name(name)
    wanted = _wanted(name, num_classes, in_chans, input_size)
    if kind == "file" or kind == "module":
        if pretrained:
            raise SourceError(
                name,
                found="--pretrained",
                why="only timm's architectures have published weights by name",
                fix="load the weights in the factory, and leave --pretrained out",
            )
        return _from_factory(find_factory(kind, plain), Source(kind, plain), wanted, dict(args or {}), _device(device))
    given = {key: checked_value(key, value) for key, value in (args or {}).items()}
    refuse_weights(plain, given)
    kind = kind or _find_registry(plain)
    library = registry_of(kind)
    if not library.knows(plain):
        raise _unknown(f"{kind}:{plain}", plain, library.names())
    reference = _from_registry(library, Source(kind, plain, given), wanted, torch.device("meta") if pretrained else _device(device))
    return _with_published_weights(library, reference) if pretrained else reference


def _with_published_weights(library: Registry, reference: Reference) -> Reference:
    """The same architecture with its published weights, and a source that tells how their images were normalised."""
    found = library.pretrained(reference.source.name, reference.source.args)
    return replace(reference, model=found.model, source=replace(reference.source, mean=found.mean, std=found.std))


def load_reference(
    name: str,
    num_classes: int | None = None,
    in_chans: int | None = None,
    input_size: tuple[int, ...] | None = None,
    args: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    pretrained: bool = False,
) -> nn.Module:
    """The network that the command line would use for `name`: see `resolve`, which also tells its input size and source."""
    return resolve(
        name, num_classes=num_classes, in_chans=in_chans, input_size=input_size, args=args, device=device, pretrained=pretrained
    ).model


def rebuild(source: Source, device: torch.device | str = "meta") -> nn.Module:
    """The reference of a registry once more, from what `Source` holds. A user's code is never run.

    Raises:
        SourceError: the source is a user's factory, or the registry does not know the name or refuses the arguments.
    """
    if not source.rebuildable:
        raise SourceError(
            source.name,
            found="a factory of a user's own",
            why="loading never runs code that an artefact names",
            fix="build the network yourself and pass it: packify.load(dir, model=network), or --model on the command line",
        )
    library = registry_of(source.kind)
    if not library.knows(source.name):
        raise _unknown(f"{source.kind}:{source.name}", source.name, library.names())
    refuse_weights(source.name, source.args)
    try:
        return _built(lambda: library.build(source.name, source.args), torch.device(device))
    except Exception as error:
        raise _refused_arguments(source, error) from error


def _wanted(name: str, num_classes: int | None, in_chans: int | None, input_size: tuple[int, ...] | None) -> Wanted:
    for option, value, least in (("num_classes", num_classes, 0), ("in_chans", in_chans, 1)):
        if value is not None and (type(value) is not int or value < least):
            raise SourceError(
                f"{name}: {option}", found=repr(value), why=f"it is a whole number of at least {least}", fix=f"pass for example {option}=10"
            )
    if input_size is None:
        return Wanted(num_classes, in_chans)
    size = tuple(input_size)
    if not _is_size(size):
        raise SourceError(
            f"{name}: input_size",
            found=repr(input_size),
            why="it is the shape of one input, without the batch",
            fix="pass for example (3, 224, 224)",
        )
    if in_chans is not None and in_chans != size[0]:
        raise SourceError(
            f"{name}: input_size",
            found=f"{size[0]} channels in the input size, {in_chans} asked for by in_chans",
            why="the first number of the input size is the channel count",
            fix=f"pass input_size={(in_chans, *size[1:])}, or leave in_chans out",
        )
    return Wanted(num_classes, in_chans, size)


def _from_registry(library: Registry, source: Source, wanted: Wanted, device: torch.device) -> Reference:
    if wanted.input_size is not None and wanted.in_chans is None:
        wanted = replace(wanted, in_chans=wanted.input_size[0])
    try:
        published = library.input_size(source.name)
        if wanted.input_size is not None and len(wanted.input_size) != len(published):
            raise _wrong_axes(source, wanted.input_size, published)
        attempts = library.arguments(source.name, wanted)
    except SourceError:
        raise
    except Exception as error:
        raise _refused_arguments(source, error) from error
    for position, attempt in enumerate(attempts):
        args = {**attempt, **source.args}
        try:
            model = _built(lambda args=args: library.build(source.name, args), device)  # type: ignore[misc] # mypy cannot infer the default's type
        except Exception as error:
            unexpected = _UNEXPECTED_KEYWORD.search(str(error)) if isinstance(error, TypeError) else None
            if unexpected and unexpected[1] in attempt and position + 1 < len(attempts):
                continue
            raise _refused_arguments(replace(source, args=args), error) from error
        channels = wanted.in_chans if wanted.in_chans is not None else source.args.get("in_chans", published[0])
        return Reference(model, replace(source, args=args), wanted.input_size or (channels, *published[1:]))
    raise SourceError(
        source.name, found="no way to build it", why="its registry offers none", fix="write a factory: path/to/file.py:factory"
    )


def _from_factory(factory: Factory, source: Source, wanted: Wanted, given: dict[str, Any], device: torch.device) -> Reference:
    args = factory.arguments(wanted, given)
    model = _built(lambda: factory(args), device)
    size = wanted.input_size or next(
        (tuple(size) for size in (getattr(owner, "input_size", None) for owner in (model, factory.build)) if _is_size(size)), None
    )
    example = None
    if wanted.input_size is None:
        offered = (getattr(owner, "example_inputs", None) for owner in (model, factory.build))
        example = next((factory.guarded(value) if callable(value) else value for value in offered if value is not None), None)
    return Reference(model, replace(source, args=args), size, example)


def _device(device: torch.device | str | None) -> torch.device:
    return torch.get_default_device() if device is None else torch.device(device)


def _built(build: Callable[[], nn.Module], device: torch.device) -> nn.Module:
    """The network on `device`; on meta no weight is allocated, unless its initialisation needs to read numbers.

    How real weights are drawn is kept, so that members can be drawn in the same way.
    """
    with warnings.catch_warnings():
        # What a library says about coming defaults of its own builders is no news to somebody converting a network.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        if device.type != "meta":
            return observe_build(build).to(device)
        with torch.random.fork_rng(devices=[]):
            try:
                with torch.device("meta"):
                    return _emptied(build())
            except Exception:
                # Whatever it was, building with real numbers tells: it works, or raises the true error.
                return _emptied(build())


def _emptied(model: nn.Module) -> nn.Module:
    """`model` with every tensor on meta; unlike `Module.to`, shared tensors stay shared."""
    empty: dict[int, Any] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None or tensor.is_meta:
                    continue
                if id(tensor) not in empty:
                    bare = tensor.detach().to("meta")
                    empty[id(tensor)] = nn.Parameter(bare, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else bare
                tensors[name] = empty[id(tensor)]
    return model


def _find_registry(name: str) -> Kind:
    known: list[str] = []
    for kind in REGISTRIES:
        library = registry_of(kind)
        if library.knows(name):
            return kind
        known += library.names()
    raise _unknown("MODEL", name, known)


def _unknown(where: str, name: str, known: list[str]) -> SourceError:
    closest = list(dict.fromkeys(difflib.get_close_matches(name, known, n=5, cutoff=0.5)))
    return SourceError(
        where,
        found=f"the unknown name {name!r}",
        why="neither timm nor torchvision has an architecture of that name"
        if where == "MODEL"
        else "the registry has no architecture of that name",
        fix=f"did you mean {', '.join(closest)}?" if closest else "pass a timm or torchvision name, or path/to/file.py:factory",
    )


def _refused_arguments(source: Source, error: Exception) -> SourceError:
    unexpected = _UNEXPECTED_KEYWORD.search(str(error)) if isinstance(error, TypeError) else None
    given = ", ".join(f"{key}={value!r}" for key, value in source.args.items())
    return SourceError(
        f"{source.kind}:{source.name}",
        found=f"{type(error).__name__}: {error}",
        why=f"its builder takes no {unexpected[1]}" if unexpected else f"its builder refuses to build with ({given})",
        fix=f"leave {unexpected[1]} out" if unexpected else "change the arguments, or write a factory: path/to/file.py:factory",
    )


def _wrong_axes(source: Source, size: tuple[int, ...], published: tuple[int, ...]) -> SourceError:
    texts = ["x".join(map(str, axes)) for axes in (size, published)]
    return SourceError(
        f"{source.kind}:{source.name}",
        found=f"the input size {texts[0]}",
        why=f"its inputs have {len(published)} axes without the batch",
        fix=f"pass for example --input-size {texts[1]}",
    )


def _is_size(size: object) -> TypeGuard[tuple[int, ...] | list[int]]:
    return isinstance(size, (tuple, list)) and len(size) > 0 and all(type(axis) is int and axis >= 1 for axis in size)
