"""New members: every tensor drawn by the scheme that the reference's own statistics show, at the member's shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from packify.nn.tree import resized

# Gains of the schemes in torch.nn.init: variance times fan. 1/3 is torch's default for Linear and Conv.
_GAINS = (1 / 3, 1.0, 2.0, 25 / 9)
_GAIN_NAMES = {1 / 3: "1/3", 25 / 9: "25/9"}
_CLOSE = 0.06
_FEW = 64
# A random vector of this length is ordered once in 20 000 draws.
_LONG = 8


@dataclass(frozen=True)
class Scheme:
    """How a tensor is drawn.

    Attributes:
        name: for the report, e.g. ``"uniform, variance 1/3 / fan_in"``.
        mean, std: of the reference's tensor.
        fan: which fan the variance is inverse to: ``"in"``, ``"out"``, ``"avg"``, or ``""`` for a fixed one.
        uniform: uniform rather than (truncated) normal.
        constant: every element equals `mean`.
        copied: the leading part of the reference's tensor, repeated where the member is larger.
        limit: largest deviation from the mean in standard deviations.
    """

    name: str
    mean: float
    std: float
    fan: str = ""
    uniform: bool = False
    constant: bool = False
    copied: bool = False
    limit: float = math.inf


def scheme_of(tensor: Tensor) -> Scheme:
    """The scheme that a reference tensor's statistics show."""
    if tensor.is_complex():
        parts = torch.view_as_real(tensor.detach())
        return scheme_of(parts.movedim(-1, 0).flatten(1) if tensor.dim() else parts)
    values = tensor.detach().to(torch.float64).flatten()
    if values.numel() == 0 or bool((values == values[0]).all()):
        value = float(values[0]) if values.numel() else 0.0
        return Scheme(f"constant {value:g}", value, 0.0, constant=True)
    if not tensor.requires_grad and isinstance(tensor, nn.Parameter):
        return Scheme("copied: it is frozen", 0.0, 0.0, copied=True)
    if tensor.dim() and _is_structured(tensor.detach()):
        return Scheme("copied: its values are ordered, not drawn", 0.0, 0.0, copied=True)
    mean, std = float(values.mean()), float(values.std(unbiased=False))
    spread = float((values - mean).abs().max()) / std
    uniform = spread < 1.8
    limit = spread if spread < 2.4 and values.numel() > 1000 else math.inf
    kind = "uniform" if uniform else "normal"
    if tensor.dim() < 2 or values.numel() < _FEW:
        return Scheme(f"{kind}, std {std:.3g}", mean, std, uniform=uniform, limit=limit)
    fan_in, fan_out = fans(tensor)
    best = min(
        (
            (abs(std**2 * fan / gain - 1), order, name, gain)
            for order, (name, fan) in enumerate((("in", fan_in), ("out", fan_out), ("avg", (fan_in + fan_out) / 2)))
            for gain in _GAINS
        ),
    )
    if best[0] < max(_CLOSE, 4 / math.sqrt(values.numel())):
        return Scheme(
            f"{kind}, variance {_GAIN_NAMES.get(best[3], f'{best[3]:.3g}')} / fan_{best[2]}",
            mean if abs(mean) > std / 4 else 0.0,
            std,
            best[2],
            uniform,
            limit=limit,
        )
    return Scheme(f"{kind}, std {std:.3g}", mean if abs(mean) > std / 4 else 0.0, std, "", uniform, limit=limit)


def _is_structured(tensor: Tensor) -> bool:
    """A grid, a schedule or a repeated row: no random draw is ordered along an axis or the same along it."""
    for axis in range(tensor.dim()):
        if tensor.shape[axis] >= _LONG:
            steps = tensor.diff(dim=axis)
            if bool((steps > 0).all()) or bool((steps < 0).all()) or bool((steps == 0).all()):
                return True
    return False


def fans(tensor: Tensor) -> tuple[float, float]:
    """Fan-in and fan-out of a weight ``"o i ..."``."""
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def draw(shape: tuple[int, ...], reference: Tensor, scheme: Scheme, generator: torch.Generator) -> Tensor:
    """One member's tensor, on the CPU in the reference's dtype."""
    if scheme.copied:
        return resized(reference.detach(), shape)
    if reference.is_complex():
        parts = [draw(shape, reference.real, replace(scheme, fan=""), generator) for _ in range(2)]
        return torch.complex(*parts)
    if scheme.constant:
        return torch.full(shape, scheme.mean, dtype=reference.dtype, device="cpu")
    new = torch.empty(shape, dtype=torch.float64 if reference.dtype == torch.float64 else torch.float32, device="cpu")
    std = scheme.std
    if scheme.fan:
        old_in, old_out = fans(reference)
        new_in, new_out = fans(new)
        old, now = {"in": (old_in, new_in), "out": (old_out, new_out), "avg": (old_in + old_out, new_in + new_out)}[scheme.fan]
        std *= math.sqrt(old / now)
    if scheme.uniform:
        bound = math.sqrt(3) * std
        new.uniform_(scheme.mean - bound, scheme.mean + bound, generator=generator)
    elif math.isfinite(scheme.limit):
        nn.init.trunc_normal_(
            new,
            scheme.mean,
            std / _TRUNCATED_STD,
            scheme.mean - 2 * std / _TRUNCATED_STD,
            scheme.mean + 2 * std / _TRUNCATED_STD,
            generator=generator,
        )
    else:
        new.normal_(scheme.mean, std, generator=generator)
    return new.to(reference.dtype)


# Standard deviation of a unit normal cut at two standard deviations.
_TRUNCATED_STD = 0.8796


def fan_owner(name: str, tensors: Mapping[str, Tensor]) -> str | None:
    """The weight whose fan-in bounds another tensor of its module: a bias, or anything of a recurrent layer."""
    path, _, own = name.rpartition(".")
    prefix = f"{path}." if path else ""
    recurrent = own.replace("weight_ih", "weight_hh").replace("bias_ih", "weight_hh").replace("bias_hh", "weight_hh")
    owner = prefix + ("weight" if own == "bias" else recurrent)
    return owner if owner != name and owner in tensors and tensors[owner].dim() > 1 else None


def by_fan_of(scheme: Scheme, tensor: Tensor, reference_fan: float, member_fan: float) -> Scheme:
    """The scheme at the member's size, if the tensor is drawn as torch does by default: uniform within 1 / sqrt(fan_in)."""
    beyond = float(tensor.detach().abs().max()) > 1.001 / math.sqrt(reference_fan)
    if beyond or abs(3 * scheme.std**2 * reference_fan - 1) > max(_CLOSE, 4 / math.sqrt(tensor.numel())):
        return scheme
    return replace(scheme, name="uniform, variance 1/3 / its layer's fan_in", mean=0.0, std=1 / math.sqrt(3 * member_fan), uniform=True)


def initialise_members(
    packed: nn.Module, reference: nn.Module, shapes: Mapping[str, tuple[int, ...]], members: int, seed: int
) -> dict[str, str]:
    """Fill the packed tensors, member by member, and return each parameter's scheme.

    The draws come from a generator seeded with `seed`, so the global random state is left alone and one seed gives one result.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    schemes: dict[str, str] = {}
    sources = dict((*reference.named_parameters(), *reference.named_buffers()))
    with torch.no_grad():
        for name, tensor in packed.named_parameters():
            source = sources[name]
            scheme = scheme_of(source)
            owner = fan_owner(name, sources)
            if owner and not (scheme.constant or scheme.copied or scheme.fan):
                scheme = by_fan_of(scheme, source, fans(sources[owner])[0], fans(torch.empty(shapes[owner], device="meta"))[0])
            schemes[name] = scheme.name
            for share in tensor.chunk(members) if tensor.dim() else [tensor]:
                share.copy_(draw(shapes[name], source, scheme, generator).view(share.shape))
        for name, buffer in packed.named_buffers():
            if name not in sources:
                continue
            if not buffer.dim():
                buffer.copy_(sources[name])
                continue
            fresh = resized(sources[name], shapes[name])
            for share in buffer.chunk(members):
                share.copy_(_reset(name, fresh))
    return schemes


def _reset(name: str, tensor: Tensor) -> Tensor:
    """A new member has no history: running statistics start afresh."""
    if name.endswith("running_mean"):
        return torch.zeros_like(tensor)
    if name.endswith("running_var"):
        return torch.ones_like(tensor)
    return tensor
