"""What the numbers of one tensor show: their spread, their shape, and whether they were drawn at all."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from packify.nn.layer_sizes import sizes_by_role
from packify.nn.recipes import SIZED_LAYERS
from packify.nn.schemes import FROZEN, ORDERED, UNDEFINED, WRITTEN, Distribution, Scheme, identity

# A random vector of this length is ordered once in 20 000 draws.
_LONG = 8
# Fewer elements than this do not show which distribution they are from.
_FEW = 128
# From this many on the rows and columns of a weight can be compared.
_MANY = 256
# A square or fourth moment of a distribution that has no heavy tails.
_KURTOSIS: dict[str, float] = {"uniform": 1.8, "truncated": 2.37, "normal": 3.0}


@dataclass(frozen=True)
class Facts:
    """What one tensor shows.

    Attributes:
        name: of the tensor.
        kinds: what it is, from the widest kind (``"Conv2d weight"``) to the narrowest that others may share.
        fixed: the scheme, where it needs no comparison with others: a constant, a copy.
        distribution: what its elements look like; empty where they are too few to tell.
        mean, std: of its elements.
        count: of its elements.
        sizes: by role.
        drawn: its rows and columns are as alike as those of drawn weights are; None where that cannot be told.
    """

    name: str
    kinds: tuple[str, ...]
    fixed: Scheme | None
    distribution: Distribution | None
    mean: float
    std: float
    count: int
    sizes: Mapping[str, float]
    drawn: bool | None

    @property
    def error(self) -> float:
        """One standard error of its standard deviation, relative."""
        return math.sqrt((_KURTOSIS.get(self.distribution or "normal", 3.0) - 1) / (4 * max(self.count, 2)))


def facts_of(name: str, tensor: Tensor, module: nn.Module, *, some_train: bool) -> Facts:
    """What a parameter shows.

    Args:
        name: its full name.
        tensor: the parameter.
        module: the layer that holds it.
        some_train: some parameter of the network is trained, so that one which is not is frozen for good.
    """
    attribute = name.rpartition(".")[2]
    kinds = _kinds(name, tensor, module)
    is_layers = isinstance(module, SIZED_LAYERS) or "weight" in attribute
    sizes = sizes_by_role(module, attribute) if is_layers else {}
    data = tensor.detach()
    if data.numel() == 0 or bool((data == data.flatten()[0]).all()):
        value = complex(data.flatten()[0]).real if data.numel() else 0.0
        return Facts(name, kinds, Scheme("constant", value), None, value, 0.0, data.numel(), sizes, None)
    if not bool(data.isfinite().all()):  # a mask of infinities among its numbers, or memory that nobody has filled
        return Facts(name, kinds, UNDEFINED, None, 0.0, 0.0, data.numel(), sizes, None)
    fixed = FROZEN if some_train and not tensor.requires_grad else _written(data)
    flat = _without_strays(_sample(torch.view_as_real(data) if data.is_complex() else data))
    mean, std = float(flat.mean()), float(flat.std(unbiased=False)) or 1e-12
    deviations = (flat - mean) / std
    spread, kurtosis = float(deviations.abs().max()), float(deviations.pow(4).mean())
    distribution = _distribution(spread, kurtosis, flat.numel())
    drawn = None if data.is_complex() or tensor.dim() < 2 else _is_drawn(data, kurtosis)
    return Facts(name, kinds, fixed, distribution, mean, std, flat.numel(), sizes, drawn)


def _written(data: Tensor) -> Scheme | None:
    """The scheme of what code wrote number by number; None for what was drawn."""
    gain = _identity_gain(data)
    if gain:
        return Scheme("identity", gain=gain)
    if _is_ordered(data):
        return ORDERED
    return WRITTEN if data.dim() > 1 and _has_few_values(data) else None


def _identity_gain(data: Tensor) -> float:
    """The factor of a multiple of the identity; 0 for anything else."""
    if data.is_complex() or not 2 <= data.dim() <= _DIMS_OF_CONVS or min(data.shape[:2]) < 2:
        return 0.0
    if data[0].count_nonzero() != 1:  # tells all drawn weights apart, without a second one as large
        return 0.0
    gain = float(data[(0, 0, *(size // 2 for size in data.shape[2:]))])
    return gain if gain and torch.equal(data, identity(torch.empty_like(data)).mul_(gain)) else 0.0


_DIMS_OF_CONVS = 5


def _has_few_values(data: Tensor) -> bool:
    """At most a handful of different values, each several times on average: draws hardly ever repeat one."""
    if data.is_complex() or data.numel() < _LONG:
        return False
    some = data.flatten()[:_FEW]  # tell most tensors apart
    return all(len(numbers.unique()) <= min(_HANDFUL, data.numel() // 3) for numbers in (some, data))


_HANDFUL = 8


def _sample(tensor: Tensor) -> Tensor:
    """Enough of the elements to tell a standard deviation to half a percent."""
    flat = tensor.flatten()
    step = max(1, flat.numel() // _ENOUGH)
    return flat[:: step + 1 - step % 2 if step > 1 else 1].to("cpu", torch.float64)


_ENOUGH = 2**15


def _without_strays(values: Tensor) -> Tensor:
    """The elements without one in 50 000 that is far from all others: a clamped infinity of an inverse error function."""
    if values.numel() < _MANY:
        return values
    typical = float(values.abs().median()) / 0.6745
    far = values.abs() > _FAR * typical
    strays = int(far.sum())
    return values[~far] if 0 < strays <= max(1, values.numel() // 50_000) else values


_FAR = 12


def _distribution(spread: float, kurtosis: float, count: int) -> Distribution | None:
    if count < _FEW:
        return None
    if count < _MANY:
        return "uniform" if spread < math.sqrt(3) * (1 + 1.5 / math.sqrt(count)) and kurtosis < _UNIFORM_OF_FEW else None
    if spread < _UNIFORM_SPREAD and kurtosis < _UNIFORM_KURTOSIS:
        return "uniform"
    if spread > _TRUNCATED_SPREAD:
        return "normal"
    return "truncated" if count > _ENOUGH_OF_A_TAIL else None


# Where distributions part: the largest deviation of uniform numbers is 1.73 standard deviations, of truncated normal ones 2.27. With mean
# and standard deviation estimated, these limits are wrong for one tensor in 500 of 256 elements, and for none in 10 000 of 1000.
_UNIFORM_SPREAD, _UNIFORM_KURTOSIS, _TRUNCATED_SPREAD = 2.0, 2.1, 2.6
_UNIFORM_OF_FEW = 2.3
_ENOUGH_OF_A_TAIL = 1000


def _is_ordered(tensor: Tensor) -> bool:
    """A grid, a schedule or a repeated row: no random draw is ordered along an axis or the same along it."""
    if tensor.is_complex():
        return _is_ordered(tensor.real) or _is_ordered(tensor.imag)
    for axis in range(tensor.dim()):
        if tensor.shape[axis] >= _LONG and _is_ordered_along(_corner(tensor, axis), axis) and _is_ordered_along(tensor, axis):
            return True
    return False


def _is_ordered_along(tensor: Tensor, axis: int) -> bool:
    steps = tensor.diff(dim=axis)
    return bool((steps > 0).all()) or bool((steps < 0).all()) or bool((steps == 0).all())


def _corner(tensor: Tensor, axis: int) -> Tensor:
    """The first elements along every other axis, which tell most tensors from an ordered one."""
    for other in range(tensor.dim()):
        tensor = tensor.narrow(other, 0, min(tensor.shape[other], _LONG if other != axis else tensor.shape[axis]))
    return tensor


def _is_drawn(values: Tensor, kurtosis: float) -> bool | None:
    """Whether the elements of a weight are drawn alike: light tails, and rows and columns of one strength."""
    if values.dim() < 2 or values.numel() < _MANY:
        return None
    if kurtosis > 3 + 6 * math.sqrt(24 / values.numel()):
        return False
    rows = values.flatten(1)
    rows = rows[:: max(1, rows.shape[0] // _MANY), :: max(1, rows.shape[1] // _MANY)].to("cpu", torch.float32).pow(2)
    for squares in (rows, rows.T):
        count, length = squares.shape
        if count < _LONG or length < _LONG:
            continue
        expected = float(squares.var(unbiased=False)) / length
        if float(squares.mean(1).var()) > expected * (1 + 8 * math.sqrt(2 / count)):
            return False
    return True


def is_orthogonal(tensor: Tensor) -> float:
    """The gain of a weight whose rows or columns are orthogonal and of one length; 0 for any other."""
    matrix = tensor.detach().to(torch.float32).flatten(1)
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    lengths = short.norm(dim=1)
    gain = float(lengths.mean())
    if short.shape[0] < 2 or not gain or float((lengths - gain).abs().max()) > 1e-3 * gain:
        return 0.0
    products = short @ short.T - gain**2 * torch.eye(short.shape[0])
    return gain if float(products.abs().max()) < 1e-3 * gain**2 else 0.0


def _kinds(name: str, tensor: Tensor, module: nn.Module) -> tuple[str, ...]:
    """From what many share to what a few share."""
    path, _, attribute = name.rpartition(".")
    plain = re.sub(r"(_l?\d+|\d+)(_reverse)?$", "", attribute)
    if isinstance(module, nn.RNNBase):
        plain = plain.partition("_")[0]
    widest = f"{_layer_name(module)} {plain}"
    own = re.sub(r"\d+", "N", path.rpartition(".")[2] if not path.rpartition(".")[2].isdigit() else path)
    if isinstance(module, nn.modules.conv._ConvNd) and tensor.dim() > 1:
        kernel = "x".join(map(str, module.kernel_size))
        shape = f"{'depthwise ' if module.groups > 1 and tensor.shape[1] == 1 else ''}{kernel}"
        return widest, f"{widest}, {shape}", f"{widest}, {shape}, {own}"
    return widest, f"{widest}, {own}"


def kind_of(name: str, tensor: Tensor, module: nn.Module) -> str:
    """The widest kind that a parameter belongs to, e.g. ``"Conv2d weight"``."""
    return _kinds(name, tensor, module)[0]


def _layer_name(module: nn.Module) -> str:
    """The torch layer that a layer is, so that a library's variants of one layer are of one kind."""
    kind = next((base for base in type(module).__mro__ if base.__module__.startswith("torch.nn.modules")), type(module))
    return kind.__name__ if isinstance(module, SIZED_LAYERS) else type(module).__name__
