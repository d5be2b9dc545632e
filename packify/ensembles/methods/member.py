"""What a method makes of a recording: one member, with what members add to it, before members are packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from packify.capture.graphs import RecordedGraphs
from packify.core.method_report import MethodReport
from packify.nn.folding import Fold
from packify.nn.tree import build_tree
from packify.ops.rule import Rule


@dataclass(frozen=True)
class Source:
    """What all methods start from.

    Attributes:
        model: the reference.
        example_inputs: what it was recorded with.
        graphs: its recording.
        rules: the user's own operator rules.
        table: every operator's rule.
    """

    model: nn.Module
    example_inputs: Any
    graphs: RecordedGraphs
    rules: Mapping[Any, Rule]
    table: Mapping[Any, Rule]


@dataclass
class MethodMember:
    """What a method makes of a recording: one member, as the pass that packs members takes it.

    Attributes:
        root: the reference's module tree on meta, with what members add.
        graphs: by mode, with what members add.
        own: names of tensors that each member has of its own; all others are shared.
        alone: tree and graphs of an extracted member.
        folds: what is multiplied into a shared weight to make a member's, by the weight's name.
        report: so far.
        added: names of the tensors of `root` that the reference does not have.
    """

    root: nn.Module
    graphs: dict[str, fx.Graph]
    own: set[str]
    alone: tuple[nn.Module, dict[str, fx.Graph]]
    report: MethodReport
    folds: dict[str, Fold] = field(default_factory=dict)
    added: frozenset[str] = frozenset()


def meta_tree(recorded: RecordedGraphs) -> nn.Module:
    """The reference's module tree on meta, without its code and without what forward never reads; parameters may be added to it."""
    unused = recorded.unused
    return build_tree(recorded.root, lambda name, tensor: None if name in unused else tensor.detach(), recorded.leaves)


def add_tensor(root: nn.Module, name: str, tensor: Tensor) -> None:
    """Register a parameter, or, where it needs no gradient and is no parameter, a buffer, by its dotted name."""
    path, _, attribute = name.rpartition(".")
    owner = root.get_submodule(path)
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(attribute, tensor)
    else:
        owner.register_buffer(attribute, tensor)


def shared_names(member: MethodMember) -> frozenset[str]:
    """All names of the tensors that all members share."""
    own = {id(tensor) for name, tensor in named_tensors(member.root) if name in member.own}
    return frozenset(name for name, tensor in named_tensors(member.root) if id(tensor) not in own)


def with_ties(member: MethodMember) -> set[str]:
    """What members have of their own, by all names of each tensor."""
    own = {id(tensor) for name, tensor in named_tensors(member.root) if name in member.own}
    return {name for name, tensor in named_tensors(member.root) if id(tensor) in own}


def named_tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    """Every parameter and buffer by each of its names."""
    return [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
