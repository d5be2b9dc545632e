"""The member as graphs of its own: the reference's graphs at the member's sizes, run once to prove that every size fits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from packify.capture.binding import arguments, bind, call_rule, rewritten
from packify.capture.operators import rule_of, traits_of
from packify.capture.remembered import RememberedCalls
from packify.capture.values import call_on_meta, recurrent_result
from packify.nn.functional import grouped_linear
from packify.nn.subgroups import Subgroups, by_group, by_part
from packify.widths.assignment import Sizes
from packify.widths.propagation import Call, HasWidths, WidthPropagation
from packify.widths.weights import argument


@dataclass
class Conflict:
    """A node whose value in the member is not what its dims say."""

    node: fx.Node
    found: str


@dataclass
class MemberGraph:
    """One mode's graph of the member, and where it did not fit."""

    graph: fx.Graph
    conflicts: list[Conflict] = field(default_factory=list)
    nodes: dict[fx.Node, fx.Node] = field(default_factory=dict)


class Builder:
    """Copies one reference graph to the member's sizes.

    Args:
        propagation: the widths of the reference graph.
        root: the member's module tree, on the meta device.
        cut: how gamma cuts the layer nodes that it cuts.
        grouped: parameters whose second axis gamma has divided; what is computed from them alone has no predicted shape.
        leaves: module types kept whole; they are not run, their sizes do not change.
        sizes: the member's.
        calls: what is known of calls from other members.
    """

    def __init__(
        self,
        propagation: WidthPropagation,
        root: nn.Module,
        constants: Mapping[str, torch.Tensor],
        rules: Mapping[Any, HasWidths],
        cut: Mapping[fx.Node, Subgroups],
        grouped: set[str],
        leaves: tuple[type[nn.Module], ...],
        sizes: Sizes,
        calls: RememberedCalls,
    ) -> None:
        self.propagation, self.root, self.constants, self.rules = propagation, root, constants, rules
        self.cut, self.grouped, self.leaves, self.sizes, self.calls = cut, grouped, leaves, sizes, calls
        self.result = MemberGraph(fx.Graph())
        self._unpredicted: set[fx.Node] = set()
        self._stamped: set[fx.Node] = set()

    def build(self) -> MemberGraph:
        """The member's graph, run once on meta tensors while it is copied."""
        with torch.no_grad():
            for node in self.propagation.graph.nodes:
                new, value = self._copy(node)
                self._stamp(new, node, value)
                self.result.nodes[node] = self._by_part(new, node) if self._is_conv_of_parts(node) else new
                self.result.nodes[node].meta["recorded"] = (node.name,)
        return self.result

    def _stamp(self, new: fx.Node, node: fx.Node, value: Any) -> None:
        gamma = self.cut[node].gamma if node in self.cut else 1
        new.meta = {**node.meta, "val": value, "reference": node.meta["val"], "gamma": gamma, "recorded": ()}
        if new.target is not node.target:
            new.meta.pop("signature", None)  # a layer that gamma cuts is another call
        self._stamped.add(new)

    def _copy(self, node: fx.Node) -> tuple[fx.Node, Any]:
        graph, dims = self.result.graph, self.propagation.dims[node]
        if node.op in ("placeholder", "get_attr"):
            new = graph.create_node(node.op, node.target, (), {}, name=node.name)
            if str(node.target) in self.grouped:
                self._unpredicted.add(node)
            return new, node.meta["val"] if node.op == "placeholder" else self._tensor(str(node.target))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda parent: self.result.nodes[parent])
        if node.op == "output":
            return graph.create_node("output", "output", args, {}, name=node.name), self._values(args[0])
        rule = rule_of(self.rules, node)
        target: Any = node.target
        wanted = predicted(dims, node.meta["val"], self.sizes)
        if rule is not None and rule.refit is not None and (wanted is not None or node in self.propagation.cuts):
            cuts = {axis: tuple(map(self.sizes.of, parts)) for axis, parts in self.propagation.cuts.get(node, {}).items()}
            call = Call(arguments(node, rule.signature, (self._values(args), self._values(kwargs))), wanted, cuts)  # type: ignore[arg-type]
            changes = call_rule(rule.refit, (call,), node, rule.signature, (args, kwargs))
            args, kwargs = rewritten(node, changes, rule.signature, (args, kwargs))
        self._stamp_sizes(node)
        if node in self.cut:
            if self._is_conv_of_parts(node):
                args, kwargs = rewritten(node, self._rows_by_group(node, args, kwargs), values=(args, kwargs))
            target, args, kwargs = with_gamma(node, target, args, kwargs, self.cut[node])
        new = graph.create_node(node.op, target, tuple(args), dict(kwargs), name=node.name)
        return new, self._run(node, target, args, kwargs, wanted)

    # -- convs whose output is cut into parts ------------------------------------------------------------------------

    def _is_conv_of_parts(self, node: fx.Node) -> bool:
        return node in self.cut and bool(self.cut[node].parts) and node.meta["op"] != "linear"

    def _rows_by_group(self, node: fx.Node, args: Any, kwargs: Any) -> dict[str, Any]:
        """A conv's weight and bias in the order of its subgroups; the weight of a transposed one has its outputs on the second axis."""
        given = arguments(node, values=(args, kwargs))
        names = ("bias",) if "transpose" in node.meta["op"] else ("weight", "bias")
        return {
            name: self._reordered(by_group, given[name], 0, node, source.meta["val"])
            for name in names
            if (source := given[name]) is not None
        }

    def _by_part(self, conv: fx.Node, node: fx.Node) -> fx.Node:
        """A conv's outputs in the reference's order."""
        channels = 1 if conv.meta["val"].dim() == argument(node, "weight").meta["val"].dim() else 0
        return self._reordered(by_part, conv, channels, node, node.meta["val"])

    def _reordered(self, function: Any, source: fx.Node, axis: int, node: fx.Node, reference: torch.Tensor) -> fx.Node:
        cut = self.cut[node]
        made = self.result.graph.call_function(function, (source, axis, cut.groups, cut.gamma, cut.parts))
        self._stamp(made, node, function(source.meta["val"], axis, cut.groups, cut.gamma, cut.parts))
        made.meta.update(op=function.__name__, reference=reference, inplace=False)
        return made

    def _stamp_sizes(self, node: fx.Node) -> None:
        """Numbers that a refit has computed for this node come from where it comes from."""
        for made in reversed(self.result.graph.nodes):
            if made in self._stamped:
                break
            made.meta.update({key: node.meta[key] for key in ("path", "source", "stack")} | {"recorded": ()})
            self._stamped.add(made)

    def _tensor(self, name: str) -> torch.Tensor:
        if name in self.constants:
            return self.constants[name].detach().to("meta")
        path, _, attribute = name.rpartition(".")
        tensor: torch.Tensor = getattr(self.root.get_submodule(path), attribute)
        return tensor

    def _values(self, value: Any) -> Any:
        return fx.node.map_arg(value, lambda node: node.meta["val"])

    def _run(self, node: fx.Node, target: Any, args: Any, kwargs: Any, wanted: Any) -> Any:
        try:
            value = self._execute(node, target, self._values(args), self._values(kwargs))
        except Exception as error:
            self.result.conflicts.append(Conflict(node, f"{type(error).__name__}: {error}"))
            return stand_in(node.meta["val"], wanted)
        sources = [parent for parent in node.all_input_nodes if isinstance(parent.meta["val"], (torch.Tensor, tuple))]
        if sources and any(parent in self._unpredicted for parent in sources) and node not in self.cut:
            self._unpredicted.add(node)
            return value
        found = shapes_of(value)
        if wanted is not None and found != wanted:
            self.result.conflicts.append(Conflict(node, f"shape {found} where {wanted} was expected"))
            return stand_in(node.meta["val"], wanted)
        return value

    def _execute(self, node: fx.Node, target: Any, args: Any, kwargs: Any) -> Any:
        if node.op == "call_module":
            module = self.root.get_submodule(str(target))
            if isinstance(module, nn.modules.batchnorm._NormBase):
                return self.calls("norm", lambda: torch.empty_like(args[0]), args[:1], {})
            if isinstance(module, self.leaves):
                return stand_in(node.meta["val"], shapes_of(node.meta["val"]))
            run: Callable[..., Any] = functools.partial(recurrent_result, module) if isinstance(module, nn.RNNBase) else module
            return run(args[0]) if isinstance(module, nn.RNNBase) else run(*args, **kwargs)
        function = getattr(torch.Tensor, target) if node.op == "call_method" else target
        if node.op != "call_method" and "created" in traits_of(self.rules, node):
            kwargs = {**kwargs, "device": torch.device("meta")}
        if node.meta.get("inplace"):
            return call_on_meta(node.meta["op"], function, args, kwargs)
        run = functools.partial(call_on_meta, node.meta["op"], function, args, kwargs)
        return self.calls((node.meta["op"], target), run, args, kwargs)


def with_gamma(node: fx.Node, target: Any, args: Any, kwargs: Any, subgroups: Subgroups) -> tuple[Any, Any, Any]:
    """The call of a layer with its groups multiplied by gamma."""
    if node.meta["op"] == "linear":
        parts = {"parts": subgroups.parts} if subgroups.parts else {}
        return grouped_linear, *bind(grouped_linear, args, {**kwargs, "groups": subgroups.gamma, **parts})[:2]
    groups = arguments(node, values=(args, kwargs))["groups"]
    groups = subgroups.gamma * (groups.meta["val"] if isinstance(groups, fx.Node) else groups)
    return target, *rewritten(node, {"groups": groups}, values=(args, kwargs))


def predicted(dims: Any, value: Any, sizes: Sizes) -> Any:
    """The member's shape of a value by its dims; nested for tuples, None for what is no tensor."""
    if isinstance(value, torch.Tensor) and isinstance(dims, list):
        return tuple(map(sizes.of, dims))
    if isinstance(value, (tuple, list)) and isinstance(dims, tuple):
        return tuple(predicted(part, item, sizes) for part, item in zip(dims, value, strict=True))
    return None


def shapes_of(value: Any) -> Any:
    """The shapes of a value, nested as `predicted` gives them."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, (tuple, list)):
        return tuple(shapes_of(item) for item in value)
    return None


def stand_in(value: Any, shape: Any) -> Any:
    """A meta tensor of the expected shape, so that one run finds every conflict."""
    if isinstance(value, torch.Tensor):
        return value.new_empty(shape if shape is not None else value.shape)
    if isinstance(value, (tuple, list)) and shape is not None:
        return tuple(stand_in(item, part) for item, part in zip(value, shape, strict=True))
    return value
