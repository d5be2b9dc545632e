"""The layers of a recorded graph as the methods see them: what they read and make, their weight, and names for what members add there."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from packify.capture.binding import arguments
from packify.capture.operators import rule_of
from packify.core.errors import SpecError
from packify.ensembles.methods.norms import from_inputs
from packify.widths.gamma import Place, places

_KINDS = ("linear", *(f"{kind}{rank}d" for kind in ("conv", "conv_transpose") for rank in (1, 2, 3)))


@dataclass(frozen=True, eq=False)
class MethodLayer:
    """A conv or linear of one graph.

    Attributes:
        node: its call.
        name: of its module, or of the node.
        owner: the module in whose forward it is called, by name; it holds what members add.
        key: equal for calls of one module, in all graphs.
        place: where it stands in the graph.
        input, weight, bias: what it reads; `bias` may be None.
        axis: of the channels, in its input and its output, counted from the back.
        width_in, width_out: its channels or features.
        groups: of a conv.
        transposed: it is a transposed conv.
        parameter: the parameter that is its weight; None where the weight is computed.
        fixed: why no method treats it; empty if they do.
    """

    node: fx.Node
    name: str
    owner: str
    key: str
    place: Place
    input: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    axis: int
    width_in: int
    width_out: int
    groups: int
    transposed: bool
    parameter: str | None
    fixed: str = ""

    @property
    def depthwise(self) -> bool:
        """Every output channel reads one input channel, of several."""
        return self.groups > 1 and self.groups == self.width_in

    @property
    def kind(self) -> str:
        """The operator, such as ``"conv2d"``."""
        return str(self.node.meta["op"])


def layers_of(graph: fx.Graph, root: nn.Module, table: Mapping[Any, Any]) -> list[MethodLayer]:
    """Every conv and linear with a learned weight, in order."""
    computed = from_inputs(graph)
    learned = {name for name, _ in root.named_parameters(remove_duplicate=False)}
    found, recipes = [], dict[str, list[str]]()
    for node, place in places(graph, table).items():
        rule = rule_of(table, node)
        given = arguments(node, rule.signature)
        weight = given["weight"]
        sources = sorted({str(source.target) for source in _sources(weight)} & learned)
        if not sources and weight not in computed:
            continue  # an operator for good, such as a blur
        key = f"{node.meta['path']}|{node.name}"
        if weight not in computed:
            base = f"{node.meta['path']}|{', '.join(sources)}|{tuple(weight.meta['val'].shape)}"
            known, recipe = recipes.setdefault(base, []), _recipe(weight)
            known += [recipe] if recipe not in known else []
            key = f"{base}|{known.index(recipe)}"  # a weight may be computed otherwise in another mode, so that only its number counts
        found.append(_layer(node, place, given, key, weight in computed))
    return found


def _layer(node: fx.Node, place: Place, given: Mapping[str, Any], key: str, dynamic: bool) -> MethodLayer:
    data, weight, bias = given["input"], given["weight"], given.get("bias")
    rank = weight.meta["val"].dim()
    axis = -1 if node.meta["op"] == "linear" else 1 - rank
    transposed = "transpose" in str(node.meta["op"])
    fixed = ""
    if node.meta["op"] not in _KINDS:
        fixed = f"{node.meta['op']} is no layer that a method knows"
    elif dynamic:
        fixed = "its weight is computed from the input"
    elif rank < 2:
        fixed = "its weight is a vector"
    groups = given.get("groups")
    groups = groups.meta["val"] if isinstance(groups, fx.Node) else groups
    return MethodLayer(
        node,
        node.meta["path"] or node.name,
        node.meta["path"],
        key,
        place,
        data,
        weight,
        bias if isinstance(bias, fx.Node) else None,
        axis,
        int(data.meta["val"].shape[axis]),
        int(node.meta["val"].shape[axis]) if node.meta["val"].dim() >= -axis else 1,
        int(groups or 1) if node.meta["op"] != "linear" else 1,
        transposed,
        str(weight.target) if weight.op == "get_attr" else None,
        fixed,
    )


def chosen(layers: Iterable[MethodLayer], patterns: Sequence[str], why: str) -> tuple[set[str], set[str]]:
    """The keys of the layers that patterns choose, and of those that they leave out.

    Args:
        layers: of all graphs.
        patterns: ``"layer4.*"`` chooses, ``"!*.se.*"`` leaves out; without any that choose, all others are chosen.
        why: what the layers are chosen for, for the error.

    Raises:
        SpecError: a pattern matches no layer.
    """
    layers = list(layers)
    names = {layer.key: layer.name for layer in layers}
    for pattern in patterns:
        if not any(_matches(name, pattern.lstrip("!")) for name in names.values()):
            shown = list(dict.fromkeys(names.values()))
            raise SpecError(
                "layers",
                found=f"no layer that matches {pattern!r}",
                why=f"{why}; there are {', '.join(shown[:6])}" + (f" and {len(shown) - 6} more" if len(shown) > 6 else ""),
                fix=f'pass layers="{shown[0]}"' if shown else "leave layers out",
            )
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    refused = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    keys = {
        key
        for key, name in names.items()
        if any(_matches(name, pattern) for pattern in wanted) and not any(_matches(name, pattern) for pattern in refused)
    }
    return keys, names.keys() - keys


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern)


class Names:
    """Free names for what members add to a module: ``conv1.r``, or ``attn.in_proj_r`` where a module has several weights."""

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._given: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def of(self, layer: MethodLayer, what: str) -> str:
        """The name of a tensor `what` of a layer; the same for every call of it."""
        if (layer.key, what) not in self._given:
            self._given[layer.key, what] = self._free(layer, what)
        return self._given[layer.key, what]

    def _free(self, layer: MethodLayer, what: str) -> str:
        attribute = (layer.parameter or "").rpartition(".")[2]
        beside = layer.parameter is not None and layer.parameter.rpartition(".")[0] == layer.owner and attribute != "weight"
        stem = f"{attribute.removesuffix('weight').strip('_') or attribute}_{what}" if beside else what
        owner = self._root.get_submodule(layer.owner)
        prefix = f"{layer.owner}." if layer.owner else ""
        name, number = stem, 2
        while hasattr(owner, name) or prefix + name in self._taken:
            name, number = f"{stem}_{number}", number + 1
        self._taken.add(prefix + name)
        return prefix + name


def foldable(layers: Sequence[MethodLayer], root: nn.Module, treated: Iterable[str]) -> set[str]:
    """The keys of the layers into whose weight factors can be multiplied: a parameter that nothing reads but this layer, in any graph.

    Args:
        layers: of all graphs.
        root: holds the weights.
        treated: the keys of the layers that get factors.
    """
    roots = {name: id(tensor) for name, tensor in root.named_parameters(remove_duplicate=False)}  # one number for all names of a tensor
    treated = set(treated)
    as_weight: dict[int, set[str]] = {}
    graphs = {id(layer.node.graph): layer.node.graph for layer in layers}
    read_by = {layer.node: layer for layer in layers}
    for graph in graphs.values():
        for node in graph.find_nodes(op="get_attr"):
            for user in node.users:
                layer = read_by.get(user)
                others = {name for name, value in arguments(user).items() if value is node and name != "weight"} if layer else set()
                own = layer is not None and layer.weight is node and not others
                if isinstance(user.meta["val"], (Tensor, tuple, list)) and str(node.target) in roots:
                    as_weight.setdefault(roots[str(node.target)], set()).add(layer.key if own and layer is not None else "")
    return {
        layer.key
        for layer in layers
        if layer.key in treated and layer.parameter is not None and as_weight.get(roots[layer.parameter]) == {layer.key}
    }


def parameters_of(value: fx.Node | None, root: nn.Module) -> set[str]:
    """The parameters that a layer's weight or bias is, or is computed from."""
    parameters = {name for name, _ in root.named_parameters(remove_duplicate=False)}
    return set() if value is None else {str(source.target) for source in _sources(value)} & parameters


def _sources(weight: fx.Node) -> list[fx.Node]:
    """The parameters, buffers and constants that a weight is computed from."""
    seen: set[fx.Node] = set()
    waiting = [weight]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += node.all_input_nodes
    return [node for node in seen if node.op == "get_attr"]


def _recipe(value: Any) -> str:
    """How a weight is computed from parameters, in words."""
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_recipe, value))})"
    if not isinstance(value, fx.Node):
        return repr(value)
    if value.op in ("get_attr", "placeholder"):
        return str(value.target)
    return f"{value.meta['op']}({', '.join(_recipe(arg) for arg in (*value.args, *value.kwargs.values()))})"
