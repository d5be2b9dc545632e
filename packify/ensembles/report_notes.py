"""What a user should know about a conversion that changed nothing: hooks, rules and leaves without effect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from packify.capture.graphs import RecordedGraphs
from packify.capture.meta import hooks_left_behind
from packify.capture.operators import rule_of
from packify.core import nested
from packify.core.report import Note, Report
from packify.core.spec import Unused
from packify.ops.user_rules import name_of
from packify.packing.moves import relayout_bytes
from packify.widths.slimming import Member

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


def learns(recorded: RecordedGraphs) -> bool:
    """Some output depends on a parameter."""
    parameters = {name for name, _ in recorded.root.named_parameters(remove_duplicate=False)}
    for graph in recorded.graphs.values():
        learned: set[fx.Node] = set()
        for node in graph.nodes:
            module = node.op == "call_module" and any(True for _ in recorded.root.get_submodule(str(node.target)).parameters())
            if module or (node.op == "get_attr" and node.target in parameters) or not learned.isdisjoint(node.all_input_nodes):
                learned.add(node)
                if node.op == "output":
                    return True
    return False


def unused_rules(rules: Mapping[Any, Any], table: Mapping[Any, Any], recorded: RecordedGraphs) -> list[Note]:
    """A user's rules that no recorded call takes."""
    used = {id(rule_of(table, node)) for graph in recorded.graphs.values() for node in graph.nodes if node.op.startswith("call")}
    return [
        Note(name_of(key), "", "is not used", "the network calls no such operator") for key, rule in rules.items() if id(rule) not in used
    ]


def unused_notes(model: nn.Module, recorded: RecordedGraphs, unused: Unused) -> list[Note]:
    """Modules with parameters that forward never uses, and what became of these."""
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if name in recorded.unused:
            owner = name.rpartition(".")[0]
            counts[owner] = counts.get(owner, 0) + parameter.numel()
    what = "is left out" if unused == "drop" else "keeps the reference's size"
    return [
        Note(owner or type(model).__name__, "", f"{what}, {count} parameters", "forward never uses it") for owner, count in counts.items()
    ]


def report_of(
    member: Member, model: nn.Module, graphs: Mapping[int, Any], averages: Mapping[str, list[str]], recorded: RecordedGraphs
) -> Report:
    """What was done to a network and why; the number of packed parameters is added once they exist."""
    paths = nested.paths(recorded.outputs["eval"])
    report = Report(member.spec, list(member.layers), list(member.pins), list(member.rounded), list(member.lowered))
    report.heads, report.groups, report.constants = list(member.heads), list(member.cardinality), list(member.numbers)
    report.averages = dict(zip(paths, averages["eval"], strict=True))
    report.reference_params = sum(parameter.numel() for parameter in model.parameters())
    report.member_params = member.params
    for graph in graphs.values():
        report.relayouts += [note for note in graph.relayouts if note not in report.relayouts]
        report.fallbacks += [note for note in graph.fallbacks if note not in report.fallbacks]
    copied = [relayout_bytes(graph.graph, member.spec.num_estimators, recorded.batch) for graph in graphs.values()]
    report.relayout_bytes = max(copied, default=0)
    report.notes += unused_notes(model, recorded, member.spec.unused)
    report.notes += [*_outputs_that_pin(member), *recorded.notes]
    report.notes += hook_notes(model)
    report.notes += unused_leaves(recorded.leaves, model)
    if not learns(recorded):
        report.notes.append(Note(type(model).__name__, "", "no output depends on a parameter", "all members return the same"))
    return report


def _outputs_that_pin(member: Member) -> list[Note]:
    """A way out where an output keeps not only the layer that makes it at full width, but others that share its axis."""
    found: dict[str, str] = {}
    for note in member.pins:
        match = _PINNED_BY_OUTPUT.match(note.why)
        if match and (", " in note.node or " more" in note.node):
            found.setdefault(match[1] or "", note.node)
    return [
        Note(
            f"output {path}".rstrip(),
            "",
            f'keeps {layers} wide: outputs={{{path!r}: "free"}} lets them shrink',
            '"drop" leaves the output out',
        )
        for path, layers in found.items()
    ]


_PINNED_BY_OUTPUT = re.compile(r"the output (?:(\S+) )?keeps the reference's shape")
