"""Calls that a network makes in place run in place in its graph where nothing reads the old value, or a view of it, afterwards."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn

# These return their argument, or a view of it, for some inputs, dtypes or devices: another run may share memory that this one did not.
_MAY_SHARE = frozenset(
    "reshape reshape_as flatten ravel contiguous to type type_as float double half bfloat16 cfloat cdouble int long bool byte short "
    "cpu cuda pin_memory dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout positive resolve_conj resolve_neg real "
    "conj expand expand_as broadcast_to squeeze unflatten einsum".split()
)
_ASKS_FOR_SHAPE = frozenset(("size", "numel", "device", "dtype"))


def reuse_memory(graph: fx.Graph, root: nn.Module, viewed: Mapping[fx.Node, fx.Node]) -> None:
    """Put back the calls in place, in ``meta["reuse"]``, that change nothing which is read later; what they are out of place is kept.

    Args:
        graph: a graph of values.
        root: the module tree that it is run on.
        viewed: of every view, what it is a view of.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    memory: dict[fx.Node, set[fx.Node]] = {}
    for node in graph.nodes:
        reuse, source = node.meta.pop("reuse", None), node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if reuse is not None and source is not None and _is_last(node, source, memory, viewed, order):
            call, form = reuse
            node.op, node.target, node.args, node.kwargs = call.op, call.target, call.args, call.kwargs
            node.meta.update(inplace=True, out_of_place=form)
            shared = memory[source]
        elif node in viewed:
            shared = memory[viewed[node]]
        elif source is not None and (node.meta["op"] in _MAY_SHARE or _is_unknown(node, root)):
            shared = memory[source]
        else:
            shared = set()
        shared.add(node)
        memory[node] = shared


def _is_last(
    node: fx.Node, source: fx.Node, memory: Mapping[fx.Node, set[fx.Node]], viewed: Mapping[fx.Node, fx.Node], order: Mapping[fx.Node, int]
) -> bool:
    shared = memory[source]
    if any(one.op in ("placeholder", "get_attr") for one in shared):
        return False
    if any(one in viewed and isinstance(one.meta["val"], (tuple, list)) for one in shared):
        return False  # torch does not write in place to one of several views
    if source in node.args[1:] or any(other in shared for other in node.all_input_nodes if other is not source):
        return False
    return not any(order[user] > order[node] and not _asks(user, one) for one in shared for user in one.users)


def _asks(user: fx.Node, of: fx.Node) -> bool:
    """A call that reads what a tensor is like, not its numbers."""
    return user.meta["op"] in _ASKS_FOR_SHAPE or (user.meta["op"] == "reshape_as" and user.args[0] is not of)


def _is_unknown(node: fx.Node, root: nn.Module) -> bool:
    """A module kept whole may return what it was given."""
    if node.op != "call_module":
        return False
    return not isinstance(root.get_submodule(str(node.target)), (nn.modules.batchnorm._NormBase, nn.RNNBase))
