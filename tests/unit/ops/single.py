"""One call of an operator by itself: its widths tried at random sizes, and its packing in every layout, against the operator's own code."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.capture.binding import bind, call_rule
from packify.capture.operators import operator_of, rule_of, traits_of
from packify.capture.remembered import RememberedCalls
from packify.core import nested
from packify.nn.members import FRONT, merge_members, split_members
from packify.ops.table import RULES
from packify.packing.builder import PackBuilder, PackedValue
from packify.widths.assignment import Pins, Sizes, assign
from packify.widths.dims import Atom, Dim, wholes_first
from packify.widths.member import Builder
from packify.widths.propagation import Parameters, WidthPropagation

MEMBERS = 3
_MOST_LAYOUTS = 30


@dataclass
class Single:
    """A graph of one call, whose tensors are parameters and buffers ``t0``, ``t1``, ...

    Attributes:
        function: what is called.
        node: the call.
        tensors: its tensors, by node.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    root: nn.Module
    graph: fx.Graph
    node: fx.Node
    tensors: dict[fx.Node, Tensor]

    def run(self, tensors: dict[fx.Node, Tensor]) -> Any:
        """The call on other tensors."""
        args, kwargs = nested.map_leaves(
            (self.node.args, self.node.kwargs), lambda leaf: tensors[leaf] if isinstance(leaf, fx.Node) else leaf
        )
        return self.function(*args, **kwargs)


def single(function: Any, *args: Any, **kwargs: Any) -> Single:
    """The call ``function(*args, **kwargs)``; a string is the name of a tensor's method."""
    root, graph, tensors = nn.Module(), fx.Graph(), dict[fx.Node, Tensor]()
    stamp = {"path": "", "source": "here:1", "stack": (), "inplace": False}

    def held(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        name = f"t{len(tensors)}"
        if leaf.is_floating_point() or leaf.is_complex():
            root.register_parameter(name, nn.Parameter(leaf.to("meta")))
        else:
            root.register_buffer(name, leaf.to("meta"))
        node = graph.get_attr(name)
        node.meta = {**stamp, "op": "get_attr", "val": leaf.to("meta")}
        tensors[node] = leaf
        return node

    target = getattr(Tensor, function) if isinstance(function, str) else function
    args, kwargs, signature = bind(target, args, kwargs)
    args, kwargs = nested.map_leaves((args, kwargs), held)
    node = graph.create_node("call_method" if isinstance(function, str) else "call_function", function, args, kwargs)
    found = Single(target, args, kwargs, root, graph, node, tensors)
    value = found.run({node: tensor.to("meta") for node, tensor in tensors.items()})
    node.meta = {**stamp, "op": operator_of(target).name, "val": value, "signature": signature}
    output = graph.output(([node],) if isinstance(value, Tensor) else ([],))
    output.meta = {**stamp, "op": "output", "val": None, "paths": [""] * len(output.args[0]), "free": (0,)}
    return found


# -- widths ------------------------------------------------------------------------------------------------------------


def dims_of(call: Single, scaled_groups: frozenset[int] = frozenset()) -> tuple[WidthPropagation, Any]:
    """The walk over a call, and the dims of its output."""
    walk = WidthPropagation(call.root, call.graph, Parameters(call.root, {}, frozenset()), RULES, scaled_groups)
    walk.run()
    return walk, walk.dims[call.node]


def check_widths(function: Any, *args: Any, tries: int = 4, scaled_groups: frozenset[int] = frozenset(), **kwargs: Any) -> list[Any]:
    """Whatever sizes the free atoms get, the operator has the output that its dims say.

    Returns:
        The sizes of the output's axes, None for one that may change.
    """
    call = single(function, *args, **kwargs)
    walk, dims = dims_of(call, scaled_groups)
    roots = list(wholes_first([*(dim for own in walk.parameters.dims.values() for dim in own), *_flat(dims)]))
    free = [root for root in roots if isinstance(root, Atom) and root.pin is None and root.size > 1]
    steps = assign(roots, *_AT_ONE).steps
    chance = random.Random(0)  # noqa: S311 -- no secret
    for _ in range(tries):
        sizes = Sizes({atom: _count(steps, atom) * chance.randint(2, 5) for atom in free}, steps)
        member = nn.Module()
        for name, tensor in (*call.root.named_parameters(), *call.root.named_buffers()):
            member.register_buffer(name, tensor.detach().new_empty([sizes.of(dim) for dim in walk.parameters.dims[name]]))
        made = Builder(walk, member, {}, RULES, {}, set(), (), sizes, RememberedCalls()).build()
        assert not made.conflicts, [conflict.found for conflict in made.conflicts]
    return _told(dims)


_AT_ONE: Any = (Fraction(1), 1, Pins(), {})


def _count(steps: Any, atom: Atom) -> int:
    return steps[atom].count if atom in steps else 1


def _flat(dims: Any) -> Iterator[Dim]:
    for item in dims if isinstance(dims, (list, tuple)) else ():
        if isinstance(item, Dim):
            yield item
        else:
            yield from _flat(item)


def _told(dims: Any) -> Any:
    if isinstance(dims, tuple):
        return [_told(item) for item in dims]
    return None if dims is None else [dim.root().size if dim.is_pinned() else None for dim in dims]


# -- packing -----------------------------------------------------------------------------------------------------------


def check_packing(function: Any, *args: Any, **kwargs: Any) -> None:
    """In every layout of its operands, the packed call is the members' calls one after another. A layout at fault is told in a note."""
    call = single(function, *args, **kwargs)
    layouts = list(itertools.product(*([None, FRONT, *range(tensor.dim())] for tensor in call.tensors.values())))
    if len(layouts) > _MOST_LAYOUTS:
        layouts = [layouts[0], *random.Random(0).sample(layouts[1:], _MOST_LAYOUTS)]  # noqa: S311 -- no secret
    for layout in layouts:
        try:
            _check_layout(call, layout)
        except Exception as error:
            error.add_note(f"operands with their members on {layout}")
            raise


def packed_call(function: Any, layout: tuple[int | None, ...], *args: Any, **kwargs: Any) -> PackBuilder:
    """The packed graph of a call, its operands in this layout."""
    return _packed(single(function, *args, **kwargs), layout)[0]


def _packed(call: Single, layout: tuple[int | None, ...]) -> tuple[PackBuilder, Any]:
    builder = PackBuilder(MEMBERS, nn.Module())
    for (node, _), axis in zip(call.tensors.items(), layout, strict=True):
        made = builder.graph.placeholder(str(node.target))
        made.meta.update(node.meta, axis=axis)
        builder.env[node] = PackedValue(made, axis, node.meta["val"])
    rule = rule_of(RULES, call.node)
    builder.current, builder.signature, builder.traits = call.node, rule.signature, traits_of(RULES, call.node)
    if rule.pack is None:
        return builder, builder.fallback(call.node)
    return builder, call_rule(rule.pack, (builder, call.node), call.node, rule.signature, builder.values(call.node))


def _check_layout(call: Single, layout: tuple[int | None, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    members = [
        [tensor] * MEMBERS if axis is None else [_varied(tensor, generator) for _ in range(MEMBERS)]
        for tensor, axis in zip(call.tensors.values(), layout, strict=True)
    ]
    wanted = [call.run({node: own[member] for node, own in zip(call.tensors, members, strict=True)}) for member in range(MEMBERS)]
    builder, found = _packed(call, layout)
    given = [own[0] if axis is None else merge_members(torch.stack(own), axis) for own, axis in zip(members, layout, strict=True)]
    ran = _ran(builder.graph, given)
    results = [ran[value.node] for value in _values(found)]
    for index, (value, result) in enumerate(zip(_values(found), results, strict=True)):
        own = [_tensors(one)[index] for one in wanted]
        assert value.shape == tuple(own[0].shape), layout
        split = [result] * MEMBERS if value.axis is None else list(split_members(result, value.axis, MEMBERS))
        for one, member in zip(own, split, strict=True):
            torch.testing.assert_close(member, one, equal_nan=True)


def _ran(graph: fx.Graph, given: list[Tensor]) -> dict[fx.Node, Any]:
    """Every node's value, without the code that a module of the graph would have written for it."""
    values, inputs = dict[fx.Node, Any](), iter(given)
    for node in graph.nodes:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "placeholder":
            values[node] = next(inputs)
        else:
            values[node] = getattr(args[0], node.target)(*args[1:], **kwargs) if node.op == "call_method" else node.target(*args, **kwargs)
    return values


def _varied(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Another tensor of the kind: what is no number with a fraction is shuffled, so that positions stay positions."""
    if tensor.is_floating_point():
        return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
    if tensor.is_complex():
        return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
    return tensor.flatten()[torch.randperm(tensor.numel(), generator=generator)].view(tensor.shape)


def _values(found: Any) -> list[PackedValue]:
    return [leaf for leaf in nested.leaves(found) if isinstance(leaf, PackedValue)]


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in nested.leaves(value) if isinstance(leaf, Tensor)]
