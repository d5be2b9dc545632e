"""What a user should know about a conversion that changed nothing: hooks, rules and leaves without effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from packify.brought import name_of
from packify.report import Note
from packify.tracing import Traced
from packify.tracing.names import rule_of
from packify.tracing.shadow import hooks_left_behind

_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")
_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def hook_notes(model: nn.Module) -> list[Note]:
    """What runs besides `forward` in the reference and does not in the packed network."""
    hooked = {*hooks_left_behind(model)}
    hooked |= {name for name, module in model.named_modules() if any(getattr(module, kind) for kind in _BACKWARD_HOOKS)}
    hooked |= {name for name, parameter in model.named_parameters() if any(getattr(parameter, kind) for kind in _TENSOR_HOOKS)}
    return [
        Note(name or type(model).__name__, "", "hooks stay with the reference", "a packed network runs a graph, not this module")
        for name in sorted(hooked)
    ]


def unused_leaves(leaves: tuple[type[nn.Module], ...], model: nn.Module) -> list[Note]:
    """Types to keep whole that no part of the model has."""
    return [
        Note(kind.__name__, "", "is kept whole nowhere", "leaves are parts of the model, and no part of it has that type")
        for kind in leaves
        if not any(isinstance(module, kind) for name, module in model.named_modules() if name)
    ]


def learns(traced: Traced) -> bool:
    """Some output depends on a parameter; what is written in place may be read anywhere."""
    parameters = {name for name, _ in traced.root.named_parameters(remove_duplicate=False)}
    for graph in traced.graphs.values():
        learned: set[fx.Node] = set()
        for node in graph.nodes:
            module = node.op == "call_module" and any(True for _ in traced.root.get_submodule(str(node.target)).parameters())
            if module or (node.op == "get_attr" and node.target in parameters) or not learned.isdisjoint(node.all_input_nodes):
                learned.add(node)
                if node.op == "output" or node.meta.get("inplace"):
                    return True
    return False


def unused_rules(rules: Mapping[Any, Any], table: Mapping[Any, Any], traced: Traced) -> list[Note]:
    """A user's rules that no recorded call takes."""
    used = {id(rule_of(table, node)) for graph in traced.graphs.values() for node in graph.nodes if node.op.startswith("call")}
    return [
        Note(name_of(key), "", "is not used", "the network calls no such operator") for key, rule in rules.items() if id(rule) not in used
    ]
