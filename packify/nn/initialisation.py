"""New members: every tensor drawn as the reference's own code would draw it at the member's shape."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from packify.core.errors import SpecError
from packify.core.report import KindScheme, LayerWidth, Note
from packify.nn.choices import Choice, choose
from packify.nn.kinds import schemes_by_kind
from packify.nn.layer_sizes import sizes_by_role
from packify.nn.recipes import Recipe, at_sizes, repeat
from packify.nn.resets import reset
from packify.nn.schemes import Scheme, draw
from packify.nn.tables import LEADING, fitted, table_notes
from packify.nn.tree import resized

Fill = Callable[[str, Tensor, int], None]
Init = Literal["scheme", "reset"] | Fill


@dataclass
class Initialised:
    """How the members of a packed network were drawn.

    Attributes:
        schemes: per parameter.
        kinds: the same in a few lines, one per kind of layer.
        notes: what a user should know.
        tables: the tables that got another size.
    """

    schemes: dict[str, str]
    kinds: list[KindScheme]
    notes: list[Note] = field(default_factory=list)
    tables: list[Note] = field(default_factory=list)


def check_init(init: object) -> None:
    """Refuse what says nothing about initial weights.

    Raises:
        SpecError: `init` is neither of the two words and no function.
    """
    if init not in ("scheme", "reset") and not callable(init):
        raise SpecError(
            "init",
            found=repr(init),
            why="initial weights are drawn by the reference's scheme, by each layer type's own reset, or by a function of yours",
            fix='pass init="scheme", init="reset" or a function (name, tensor, member) that fills the tensor in place',
        )


def initialise_members(
    packed: nn.Module,
    reference: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    members: int,
    seed: int,
    layers: Sequence[LayerWidth] = (),
    init: Init = "scheme",
    tables: bool = True,
    members_of: tuple[int, int] | None = None,
) -> Initialised:
    """Fill the packed tensors, member by member.

    Member m's draws depend on `seed` and m alone; the global random state is left as it was.

    Args:
        packed: the network to fill; ``parameter.chunk(members)[m]`` is member m's.
        reference: what it was made from.
        shapes: of a member's tensors by name.
        members: M.
        seed: of the draws.
        layers: the layers' widths, for their groups.
        init: the scheme of each kind of layer, each layer type's own reset, or a function of the user's.
        tables: tables of frequencies and the like are computed anew at the member's widths, not cut.
        members_of: the number of the first member in a larger ensemble, and that ensemble's M, where these members are a part of one.

    Raises:
        SpecError: the user's function raised.
    """
    names = [name for name, _ in packed.named_parameters()]
    choice = choose(reference, names, init)
    drawing = _Drawing(reference, shapes, choice, layers, fitted if tables else _cut)
    parameters = dict(packed.named_parameters())
    first, whole = members_of or (0, members)
    seeds = torch.randint(2**62, (whole,), device="cpu", generator=torch.Generator("cpu").manual_seed(seed))[
        first : first + members
    ].tolist()
    with torch.no_grad(), _own_randomness():
        for member in range(members):
            torch.manual_seed(seeds[member])
            for name, tensor in drawing.draw():
                if callable(init):
                    _call(init, name, tensor, member, choice)
                share = parameters[name].chunk(members)[member] if parameters[name].dim() else parameters[name]
                share.copy_(tensor.view(share.shape))
        notes = _fill_buffers(packed, reference, shapes, members, drawing.fit)
    labels = {name: choice.label(name) for name in names}
    return Initialised(labels, schemes_by_kind(reference, labels), choice.notes, [*drawing.notes, *notes])


Shapes = Mapping[str, tuple[int, ...]]
# The tensors of a layer at these shapes, with so many groups, by attribute.
Make = Callable[[Shapes, "int | None"], Mapping[str, Tensor]]
Fit = Callable[[Tensor, tuple[int, ...]], tuple[Tensor, str]]


def _cut(table: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, str]:
    return resized(table, shape), LEADING


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Draws inside, which are made on the CPU, leave no trace in the global generators."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        yield


def _call(init: Fill, name: str, tensor: Tensor, member: int, choice: Choice) -> None:
    before = tensor._version
    try:
        init(name, tensor, member)
    except Exception as error:
        raise SpecError(
            "init",
            found=f"{type(error).__name__} for {name}, a tensor of shape {tuple(tensor.shape)}, of member {member}: {error}",
            why="the function is called with every parameter of every member, which it fills in place or leaves as it is",
            fix="return early for the names that the function is not about",
        ) from error
    if tensor._version != before:
        choice.own[name] = getattr(init, "__name__", type(init).__name__)


class _Drawing:
    """One member's parameters, again for each member."""

    def __init__(
        self, reference: nn.Module, shapes: Mapping[str, tuple[int, ...]], choice: Choice, layers: Sequence[LayerWidth], fit: Fit
    ) -> None:
        self.choice, self.fit = choice, fit
        self.layers = {layer.name: layer for layer in layers}
        self.groups = _member_groups(reference, layers, shapes)
        self.notes: dict[Note, None] = {}
        self.sources = dict(reference.named_parameters(remove_duplicate=False))
        first = {id(tensor): name for name, tensor in reversed(self.sources.items())}
        names = {name: first[id(tensor)] for name, tensor in self.sources.items()}
        self.shapes = {name: shapes[known] for name, known in names.items() if known in shapes}
        self.modules = dict(reference.named_modules(remove_duplicate=False))

    def draw(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter by name."""
        for path, recipes in list(self.choice.recipes.items()):
            try:
                repeated = functools.partial(self._repeated, path, recipes)
                yield from self._by_subgroups(path, recipes, repeated)
            except Exception:  # a library's or a user's function that does not work at the member's sizes
                self.choice.give_up(path, self.modules[path])
        for path, attributes in self.choice.resets.items():
            yield from self._by_subgroups(path, attributes, functools.partial(reset, self.modules[path]))
        for name, scheme in self.choice.schemes.items():
            path, _, attribute = name.rpartition(".")
            if scheme.distribution == "copied":
                yield name, self._copied(name)
            else:
                yield from self._by_subgroups(path, [attribute], functools.partial(self._drawn, path, attribute, scheme))

    def _by_subgroups(self, path: str, attributes: Iterable[str], make: Make) -> list[tuple[str, Tensor]]:
        """A layer's tensors; one that gamma cuts is drawn as the layers that its subgroups are, one after the other."""
        shapes, groups, layer = self._own_shapes(path), self.groups.get(path), self.layers.get(path)
        gamma = layer.gamma if layer is not None and isinstance(self.modules[path], (nn.Linear, nn.modules.conv._ConvNd)) else 1
        parts = layer.parts if layer is not None else ()
        if gamma == 1 or not all(shapes.values()) or any(size % gamma for size in (*parts, *(shape[0] for shape in shapes.values()))):
            made = make(shapes, groups)
            return [(_joined(path, attribute), made[attribute]) for attribute in attributes]
        own = {attribute: (shape[0] // gamma, *shape[1:]) for attribute, shape in shapes.items()}
        drawn = [make(own, groups and groups // gamma) for _ in range(gamma)]
        return [(_joined(path, attribute), _woven([one[attribute] for one in drawn], parts)) for attribute in attributes]

    def _repeated(self, path: str, recipes: Mapping[str, Recipe], shapes: Shapes, groups: int | None) -> dict[str, Tensor]:
        module = self.modules[path]
        new = at_sizes(module, shapes, groups)
        there = {attribute: sizes_by_role(module, attribute) for attribute in recipes}
        here = {attribute: sizes_by_role(module, attribute, shapes, groups) for attribute in recipes}
        repeat(new, recipes, there, here)
        return {attribute: tensor.detach() for attribute, tensor in new._parameters.items() if tensor is not None}

    def _drawn(self, path: str, attribute: str, scheme: Scheme, shapes: Shapes, groups: int | None) -> dict[str, Tensor]:
        sizes = sizes_by_role(self.modules[path], attribute, shapes, groups)
        return {attribute: draw(shapes[attribute], scheme, sizes, self.sources[_joined(path, attribute)].dtype)}

    def _copied(self, name: str) -> Tensor:
        source = self.sources[name]
        made, how = self.fit(source.detach().cpu(), self.shapes[name])
        self.notes |= dict.fromkeys(table_notes(name, source, self.shapes[name], how))
        return made.clone()

    def _own_shapes(self, path: str) -> dict[str, tuple[int, ...]]:
        """The member's shapes of a module's parameters; one that the member leaves out has the reference's."""
        own = {attribute: tensor for attribute, tensor in self.modules[path]._parameters.items() if tensor is not None}
        return {attribute: self.shapes.get(_joined(path, attribute), tuple(tensor.shape)) for attribute, tensor in own.items()}


def _woven(drawn: Sequence[Tensor], parts: Sequence[int]) -> Tensor:
    """The rows of a layer's subgroups in the layer's order: part by part, and in each part subgroup by subgroup."""
    count, rows = len(drawn), len(drawn[0])
    sizes = [size // count for size in parts] if sum(parts) == rows * count else [rows]
    return torch.cat([piece for part in zip(*(one.split(sizes) for one in drawn), strict=True) for piece in part])


def _joined(path: str, attribute: str) -> str:
    return f"{path}.{attribute}" if path else attribute


def _member_groups(reference: nn.Module, layers: Sequence[LayerWidth], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The groups of a member's convs, with gamma, and where they follow a width with it."""
    modules = dict(reference.named_modules(remove_duplicate=False))
    groups: dict[str, int] = {}
    for layer in layers:
        module, shape = modules.get(layer.name), shapes.get(f"{layer.name}.weight", ())
        if isinstance(module, nn.modules.conv._ConvNd) and len(shape) > 1:
            width = layer.member_out if module.transposed else layer.member_in
            groups[layer.name] = max(1, width // shape[1])
    return groups


def _fill_buffers(packed: nn.Module, reference: nn.Module, shapes: Mapping[str, tuple[int, ...]], members: int, fit: Fit) -> list[Note]:
    sources, notes = dict(reference.named_buffers()), list[Note]()
    for name, buffer in packed.named_buffers():
        if name not in sources:
            continue
        if not buffer.dim():
            buffer.copy_(sources[name])
            continue
        made, how = fit(sources[name].cpu(), shapes[name])
        fresh = _without_history(name, made)
        if fresh is made:
            notes += table_notes(name, sources[name], shapes[name], how)
        for share in buffer.chunk(members):
            share.copy_(fresh)
    return notes


def _without_history(name: str, tensor: Tensor) -> Tensor:
    """A new member has seen nothing: running statistics start afresh."""
    if name.endswith("running_mean"):
        return torch.zeros_like(tensor)
    if name.endswith("running_var"):
        return torch.ones_like(tensor)
    return tensor
