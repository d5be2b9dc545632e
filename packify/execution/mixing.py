"""Strategies of parts: a packed network whose blocks and layers are run in different ways, as one graph.

The network's blocks are put together again to one flat graph, in which each part that is run in turn is one call. What lies between them
runs grouped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from packify.core.errors import SpecError
from packify.execution.part_in_turn import PartInTurn, reason_against_turns
from packify.nn.block import Block, forms_of
from packify.nn.code import function_of
from packify.nn.flattening import flat_again
from packify.nn.packed_network import PackedNetwork
from packify.nn.ports import ports_of
from packify.nn.wrappers import part_of

PART_STRATEGIES = ("auto", "grouped", "in turn")


def require_parts(network: PackedNetwork, base: str, parts: Any) -> dict[str, str]:
    """The strategies of parts, without those that are ``"auto"``.

    Args:
        network: whose parts they are.
        base: the strategy of the network.
        parts: strategies by dotted name.

    Raises:
        SpecError: there is no such part or strategy, or the part or the rest of the network cannot be run so.
    """
    found: dict[str, str] = {}
    if parts and network.suited_strategies is not None:
        why = "parts of a network whose members share weights have no strategies of their own"
        raise SpecError("strategies", found=repr(parts), why=why, fix='set packed.strategy = "in turn"')
    if not isinstance(parts, Mapping) or not all(isinstance(path, str) for path in parts):
        fix = 'set packed.strategies = {"layer1": "in turn"}'
        raise SpecError("strategies", found=repr(parts), why="they are strategies by the dotted names of parts", fix=fix)
    for path, name in parts.items():
        where = f"strategy of {path!r}"
        try:
            part_of(network, path)
        except AttributeError as error:
            fix = "take a name from packed.named_modules()"
            raise SpecError(where, found=str(error), why="strategies are those of blocks and layers", fix=fix) from error
        if name not in PART_STRATEGIES:
            why = f"a part is run in one of these ways: {', '.join(map(repr, PART_STRATEGIES))}"
            raise SpecError(where, found=repr(name), why=why, fix=f'set packed.strategies = {{{path!r}: "in turn"}}')
        reason = reason_against_turns(network, path) if name == "in turn" and network.num_estimators > 1 else ""
        if reason:
            fix = 'set packed.strategy = "in turn"' if not path else "choose a part of it, or what it is a part of"
            raise SpecError(where, found="'in turn'", why=reason, fix=fix)
        if name != "auto":
            found[path] = str(name)
    if found and base not in ("auto", "grouped", "in turn"):
        why = "parts are run in turn or grouped, and so has the rest to be"
        raise SpecError("strategies", found=f"a network with strategy {base!r}", why=why, fix='set packed.strategy = "auto" first')
    return found


def parts_in_turn(network: PackedNetwork, base: str, parts: Mapping[str, str]) -> frozenset[str]:
    """The parts that are called once per member: what is to run in turn and holds nothing that is not, as large as possible.

    A part runs as it is said of it, or else of the nearest part that it is in, or else of the network.

    Args:
        network: the packed network.
        base: the strategy of what nothing is said of.
        parts: strategies by dotted name.
    """
    found: set[str] = set()

    def visit(module: nn.Module, path: str, around: str) -> None:
        own = parts.get(path, around)
        mixed = any(other.startswith(f"{path}.") and parts[other] != own for other in parts) or not path
        if own == "in turn" and not mixed and ports_of(module) and not reason_against_turns(network, path):
            found.add(path)
            return
        for name, child in module._modules.items():
            if child is not None:
                visit(child, f"{path}.{name}".lstrip("."), own)

    visit(network.body, "", base)
    return frozenset(found)


def mixed_function(network: PackedNetwork, inputs_are: str, mode: str, in_turn: Mapping[str, PartInTurn]) -> Callable[..., tuple[Any, ...]]:
    """The network's graph of some kind of inputs as a function of its module tree and the inputs, with parts in turn.

    Args:
        network: the packed network.
        inputs_are: ``"shared"`` or ``"independent"``.
        mode: ``"eval"`` or ``"train"``.
        in_turn: the parts that are called once per member, by dotted name.
    """
    named = network.body.named_modules(remove_duplicate=False)
    blocks = {path: forms_of(module) for path, module in named if path and isinstance(module, Block) and path not in in_turn}
    graph = flat_again(network.forms[inputs_are], blocks, mode)
    for node in graph.find_nodes(op="call_module"):
        if node.target in in_turn:
            node.op, node.target = "call_function", in_turn[str(node.target)]
    return function_of(graph, "<packify parts in turn>")
