"""The packed network: M members, one forward pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from packify.core import nested
from packify.core.errors import PackError
from packify.core.report import Report
from packify.core.spec import Spec
from packify.nn.averaging import averaged
from packify.nn.code import written
from packify.nn.graph_network import GraphNetwork, Interface, MemberNetwork
from packify.nn.layer_settings import settings
from packify.nn.members import merge_members
from packify.nn.tree import build_tree, leaf_names, state_sizes

# What a user may change on a layer of a packed network, and an extracted member must have too.
_SETTINGS = frozenset(("training", "p", "momentum", "eps", "dropout"))


class PackedNetwork(GraphNetwork):
    """M independent members side by side (Laurent et al., ICLR 2023, eq. 5).

    In training mode a call returns all members' outputs, member-major ``"(m b) ..."``; in evaluation mode their average in the
    reference's own output shape. Parameters and buffers have the reference's names; ``p.chunk(M)[m]`` is member m's.

    Attributes:
        spec: alpha, M, gamma and the policies.
        report: what was done and why.
        average: per output leaf ``"probs"``, ``"mean"``, ``"vote"`` or ``"none"``.
        batched: any batch size will do on the leading axis of all inputs; otherwise the network takes the example's only.
        inputs: ``"shared"``, or ``"independent"`` for inputs ``"(m b) ..."`` with one batch per member.
        example_inputs: meta tensors shaped like the example the network was packed with.
    """

    member_template: MemberNetwork
    spec: Spec
    report: Report
    averages: dict[str, list[str]]
    batched: bool
    inputs: Literal["shared", "independent"]
    example_inputs: Any
    leaves: tuple[type[nn.Module], ...]
    output_choices: dict[str, str]

    def __init__(
        self,
        body: nn.Module,
        graphs: Mapping[str, fx.Graph],
        member: MemberNetwork,
        interface: Interface,
        *,
        spec: Spec,
        report: Report,
        average: dict[str, list[str]],
        inputs: str,
        example_inputs: Any,
        batched: bool,
        leaves: tuple[type[nn.Module], ...] = (),
        output_choices: Mapping[str, str] | None = None,
        unused: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(body, graphs, interface, unused)
        state = self.__dict__
        state["member_template"] = member
        state["spec"], state["report"], state["inputs"], state["example_inputs"] = spec, report, inputs, example_inputs
        state["averages"], state["batched"], state["leaves"] = average, batched, leaves
        state["output_choices"] = dict(output_choices or {})

    @property
    def num_estimators(self) -> int:
        """M."""
        return self.spec.num_estimators

    @property
    def average(self) -> Any:
        """How members are averaged: one word, or one per output leaf by its path."""
        kinds = self.averages["eval"]
        if len(set(kinds)) == 1:
            return kinds[0]
        return dict(zip(nested.paths(self.interface.outputs["eval"]), kinds, strict=True))

    @property
    def digest(self) -> str:
        """A fingerprint of names, shapes, code and layers' settings: equal for networks that can exchange weights."""
        parts = [
            f"{name} {tuple(tensor.shape)}"
            for name, tensor in sorted((*self.named_parameters(), *self.named_buffers()), key=lambda item: item[0])
        ]
        graphs = [network.graphs[mode] for network in (self, self.member_template) for mode in ("eval", "train")]
        sources = {graph: str(written(graph).src) for graph in dict.fromkeys(graphs)}
        parts += [sources[graph] for graph in graphs]
        called = sorted({str(node.target) for graph in graphs for node in graph.find_nodes(op="call_module")})
        parts += [f"{name} {settings(self.get_submodule(name))}" for name in called]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The reference's arguments; ``"(m b) ..."`` in training mode, the average in evaluation mode."""
        outputs = self.run(*args, **kwargs)
        if self.training:
            return self.restructure([_folded(output) for output in outputs])
        return self.restructure([averaged(output, how) for output, how in zip(outputs, self.averages["eval"], strict=True)])

    def members(self, *args: Any, **kwargs: Any) -> Any:
        """Every member's own output, ``"m b ..."``, in either mode."""
        return self.restructure(list(self.run(*args, **kwargs)))

    def flat_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        """The tensors among a call's arguments; independent inputs hold one batch per member."""
        tensors = super().flat_inputs(args, kwargs)
        for tensor in tensors if self.inputs == "independent" else ():
            if not tensor.dim() or tensor.shape[0] % self.num_estimators:
                raise PackError(
                    "forward",
                    found=f"an input of shape {tuple(tensor.shape)} for {self.num_estimators} members",
                    why='the network was packed for inputs="independent": "(m b) ...", one batch per member',
                    fix=f"pass {self.num_estimators} batches of one size, one after the other",
                )
        return tensors

    @torch.inference_mode(False)
    def extract(self, member: int) -> MemberNetwork:
        """Member `member` as a network of its own, with copies of its weights.

        Raises:
            PackError: there is no such member.
        """
        if type(member) is not int or not -self.num_estimators <= member < self.num_estimators:
            raise PackError(
                f"extract({member!r})",
                found=f"{self.num_estimators} members",
                why="members are numbered from 0",
                fix=f"pass a number from 0 to {self.num_estimators - 1}",
            )
        template = self.member_template
        own = dict((*self.named_parameters(), *self.named_buffers()))

        def share(name: str, tensor: Tensor) -> Tensor:
            return member_share(name, own[name], self.num_estimators, member, tensor.shape).clone()

        body = build_tree(template.body, share, self.leaves)
        whole = leaf_names(body, self.leaves)
        for name, part in body.named_modules():
            if name not in whole:
                state_sizes(part)
        packed_parts = dict(self.named_modules())
        for name, part in body.named_modules():
            for setting in _SETTINGS & vars(part).keys():
                setattr(part, setting, getattr(packed_parts[name], setting))
        return template.over(body)


def member_share(name: str, packed: Tensor, members: int, member: int, shape: torch.Size) -> Tensor:
    """A view of member `member`'s share of the packed tensor called `name`, ``"(m a) ..."``, in the member's own `shape`."""
    packed = packed.detach()
    if not packed.dim() or name.startswith("_constant_"):
        return packed
    return packed.chunk(members)[member].view(shape)


def _folded(output: Any) -> Any:
    if not isinstance(output, Tensor):
        return output
    return merge_members(output, 0) if output.dim() > 1 else output
