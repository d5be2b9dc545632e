"""How a module's tensors were filled while it was built, as calls that can be repeated at other shapes."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from packify.core.powers import PowerLaw
from packify.nn.tree import shallow_copy, state_sizes

# Kinds of layer whose integer attributes `state_sizes` can restate, so that their own functions may be called at other sizes.
SIZED_LAYERS = (
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.PReLU,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
)


def is_resizable(module: nn.Module) -> bool:
    """A layer whose sizes are all said by the attributes that `state_sizes` restates, so that its own functions work at any size."""
    if module._modules or not isinstance(module, SIZED_LAYERS):
        return False
    if type(module).__module__.startswith("torch.nn."):
        return True
    sizes = {size for tensor in module._parameters.values() if tensor is not None for size in tensor.shape if size >= _FEW}
    return not any(type(value) is int and value in sizes for key, value in vars(module).items() if key not in _STATED)


_FEW = 5
_STATED = frozenset(
    "in_features out_features in1_features in2_features num_embeddings embedding_dim num_features num_channels num_groups num_parameters"
    " in_channels out_channels groups input_size hidden_size proj_size".split()
)


class Subject:
    """Stands, among a call's arguments, for the tensor or the module that the call fills."""


SUBJECT = Subject()


@dataclass(frozen=True, eq=False)
class Call:
    """A call that filled a tensor.

    Attributes:
        function: a function of torch, a library or the user.
        args, kwargs: numbers, words and, once, `SUBJECT`.
        of_module: the subject is the layer that holds the tensor, not the tensor.
        name: for the report: ``"trunc_normal_"``, ``"Linear.reset_parameters"``, ``"init_weights of Conv2d"``.
        told: which arguments the report shows, by the place they have and the name they go by.
        site: the line of code that called.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    of_module: bool
    name: str
    told: Mapping[int | str, str]
    site: str = ""

    def __call__(self, subject: Any, numbers: Mapping[int | str, float] | None = None) -> None:
        """Repeat the call on another subject, with other numbers at some positions or keywords."""
        numbers = numbers or {}
        args = [subject if arg is SUBJECT else numbers.get(index, arg) for index, arg in enumerate(self.args)]
        kwargs = {key: subject if arg is SUBJECT else numbers.get(key, arg) for key, arg in self.kwargs.items()}
        self.function(*args, **kwargs)

    def words(self, laws: Mapping[int | str, PowerLaw]) -> str:
        """``"trunc_normal_(std=0.02)"``, ``"normal_(std=1.414 * fan_out ** -0.5)"``."""
        if self.of_module:
            return self.name
        values: dict[int | str, Any] = dict(enumerate(self.args))
        values.update(self.kwargs)
        shown: dict[int | str, str] = {place: str(laws[place]) if place in laws else _short(values[place]) for place in self.told}
        return f"{self.name}({', '.join(f'{label}={shown[place]}' if label else shown[place] for place, label in self.told.items())})"

    def numbers(self) -> dict[int | str, float]:
        """The fractions among the arguments, by position or keyword."""
        places: list[tuple[int | str, Any]] = [*enumerate(self.args), *self.kwargs.items()]
        return {place: value for place, value in places if isinstance(value, float) and math.isfinite(value) and value != int(value)}


@dataclass
class Step:
    """One call of a recipe.

    Attributes:
        order: calls of one module are repeated in the order in which they were made.
        call: what was called.
        laws: the numbers among its arguments that were computed from a size.
        rows: the part of the first axis that it fills, from which share of it to which; None for all of it.
    """

    order: int
    call: Call
    laws: dict[int | str, PowerLaw] = field(default_factory=dict)
    rows: tuple[Fraction, Fraction] | None = None

    def part_of(self, tensor: Tensor) -> Tensor:
        """What the call fills of a tensor.

        Raises:
            ValueError: the first axis cannot be parted like that.
        """
        if self.rows is None:
            return tensor
        start, stop = (share * tensor.shape[0] for share in self.rows)
        if start.denominator > 1 or stop.denominator > 1:
            raise ValueError(f"{tensor.shape[0]} rows have no part from {self.rows[0]} to {self.rows[1]} of them")
        return tensor[int(start) : int(stop)]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


@dataclass(eq=False)
class Recipe:
    """How one tensor was filled.

    Attributes:
        tensor: the tensor itself (weakly), to know whether it is still the one.
        version: of the tensor when the build ended; whatever is written later raises it.
        steps: the calls, from the last that overwrote all of it.
        inner: what a layer's own function called on the tensor, where that is one call.
    """

    tensor: weakref.ref[Tensor]
    version: int
    steps: list[Step]
    inner: str = ""

    @property
    def label(self) -> str:
        """For the report."""
        return self.inner or ", then ".join(dict.fromkeys(step.call.words(step.laws) for step in self.steps))


_RECIPES: weakref.WeakKeyDictionary[nn.Module, dict[str, Recipe]] = weakref.WeakKeyDictionary()


def remember(module: nn.Module, recipes: Mapping[str, Recipe]) -> None:
    """Keep how a module's own tensors were filled for as long as the module lives."""
    _RECIPES[module] = dict(recipes)


def recipe_of(module: nn.Module, attribute: str) -> Recipe | None:
    """How a tensor of a module was filled, if that was seen and it is still the same tensor."""
    recipe = _RECIPES.get(module, {}).get(attribute)
    tensor = module._parameters.get(attribute)
    return recipe if recipe is not None and tensor is not None and recipe.tensor() is tensor else None


def at_sizes(module: nn.Module, shapes: Mapping[str, Sequence[int]], groups: int | None = None, device: str = "cpu") -> nn.Module:
    """A layer like `module`, not run and never trained, whose parameters are empty tensors of these shapes.

    Buffers and parameters without a shape here are as they are in `module`. What has half precision is drawn in float32.
    """
    new = shallow_copy(module)
    for name, tensor in module._parameters.items():
        if tensor is None or name not in shapes:
            new._parameters[name] = tensor
        else:
            dtype = torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype
            new._parameters[name] = nn.Parameter(torch.empty(tuple(shapes[name]), dtype=dtype, device=device), tensor.requires_grad)
    new._buffers = dict(module._buffers)
    if isinstance(module, SIZED_LAYERS):
        state_sizes(new, groups)
    return new


def repeat(
    module: nn.Module,
    recipes: Mapping[str, Recipe],
    reference: Mapping[str, Mapping[str, float]],
    member: Mapping[str, Mapping[str, float]],
) -> None:
    """Repeat the recipes of a module's tensors on `module`, in order; draws come from torch's global generator.

    Args:
        module: what `at_sizes` gave.
        recipes: by the tensor's attribute.
        reference, member: the sizes of each tensor by role, there and here.
    """
    steps = sorted(((step.order, name, step) for name, recipe in recipes.items() for step in recipe.steps), key=lambda item: item[0])
    done: set[int] = set()
    with torch.no_grad():
        for _, name, step in steps:
            if step.call.of_module:
                if id(step.call) not in done:
                    step.call(module)
                done.add(id(step.call))
                continue
            given = step.call.numbers()
            numbers = {
                place: given[place] * (member[name][law.role] / reference[name][law.role]) ** law.exponent
                for place, law in step.laws.items()
                if law.role in member[name] and law.role in reference[name]
            }
            tensor = module._parameters[name]
            if tensor is not None:
                step.call(step.part_of(tensor), numbers)
