"""The packed network: M members, one forward pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, fx, nn

from packify.core import nested
from packify.core.errors import PackError, SpecError
from packify.core.report import Report
from packify.core.spec import Spec
from packify.nn.averaging import averaged
from packify.nn.block import FORMS
from packify.nn.code import written
from packify.nn.exchange import member_parts, replace_parts, require_own_parts
from packify.nn.executed_network import ExecutedNetwork, Executor
from packify.nn.graph_network import Cut, Interface, MemberNetwork
from packify.nn.heads import resize_layer
from packify.nn.layer_settings import settings
from packify.nn.members import merge_members
from packify.nn.tree import MakeTensor, build_tree, is_constant, leaf_names, state_sizes
from packify.nn.wrappers import held_tensor, is_frozen, part_of, plain_name

# What a user may change on a layer of a packed network, and an extracted member must have too.
LAYER_SETTINGS = frozenset(("training", "p", "momentum", "eps", "dropout"))


class Repacker(Protocol):
    """What packs the member of a packed network once more."""

    def independent(self, packed: PackedNetwork) -> Mapping[str, fx.Graph]:
        """The graphs that take inputs ``"(m b) ..."``, by mode."""


class PackedNetwork(ExecutedNetwork):
    """M independent members side by side (Laurent et al., ICLR 2023, eq. 5).

    In training mode a call returns all members' outputs, member-major ``"(m b) ..."``; in evaluation mode their average in the
    reference's own output shape. Parameters and buffers have the reference's names; ``p.chunk(M)[m]`` is member m's.

    Attributes:
        spec: alpha, M, gamma and the policies.
        report: what was done and why.
        average: per output leaf ``"probs"``, ``"mean"``, ``"vote"`` or ``"none"``.
        batched: any batch size will do on the leading axis of all inputs; otherwise the network takes the example's only.
        inputs: ``"shared"``, or ``"independent"`` where a call in training mode takes ``"(m b) ..."``, one batch per member (Figure 3b of
            the paper). It may be set at any time: the weights are the same either way. In evaluation mode, and in `members`, inputs are
            always shared.
        example_inputs: meta tensors shaped like the example the network was packed with.
        resized: layers that `resize` has given another number of output features.
        takes_members: inputs are the members' own, ``"(m b) ..."``, in evaluation mode too: another packed network's outputs.
        gives_members: outputs are the members' own, ``"(m b) ..."``, in evaluation mode too: another packed network's inputs.
    """

    member_template: MemberNetwork
    spec: Spec
    report: Report
    averages: dict[str, list[str]]
    batched: bool
    repacker: Repacker
    example_inputs: Any
    leaves: tuple[type[nn.Module], ...]
    output_choices: dict[str, str]
    resized: dict[str, int]
    takes_members: bool
    gives_members: bool

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
        repacker: Repacker,
        leaves: tuple[type[nn.Module], ...] = (),
        output_choices: Mapping[str, str] | None = None,
        unused: frozenset[str] = frozenset(),
        cut: Cut | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.__dict__["executor"] = executor
        super().__init__(body, graphs, interface, unused, cut)
        state = self.__dict__
        state["member_template"] = member
        state["spec"], state["report"], state["example_inputs"], state["repacker"] = spec, report, example_inputs, repacker
        state["averages"], state["batched"], state["leaves"] = average, batched, leaves
        state["output_choices"] = dict(output_choices or {})
        state["resized"], state["takes_members"], state["gives_members"] = {}, False, False
        self.inputs = inputs  # type: ignore[assignment] # the setter checks it

    @property
    def num_estimators(self) -> int:
        """M."""
        return self.spec.num_estimators

    @property
    def inputs(self) -> Literal["shared", "independent"]:
        """Whether members share the inputs of a training step, or each has a batch of its own."""
        how: Literal["shared", "independent"] = self.__dict__["_inputs"]
        return how

    @inputs.setter
    def inputs(self, how: Literal["shared", "independent"]) -> None:
        if how not in ("shared", "independent"):
            raise SpecError(
                "inputs",
                found=repr(how),
                why="members see one shared batch or independent ones",
                fix='pass inputs="shared" or inputs="independent"',
            )
        if how == "independent" and "independent" not in self.graphs:
            own = self.repacker.independent(self)
            self.graphs |= {name: own[mode] for mode, name in zip(("eval", "train"), FORMS["independent"], strict=True)}
            self.recompile()
        self.__dict__["_inputs"] = how

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "inputs" and isinstance(value, str):  # a part of the reference may have that name
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def average(self) -> Any:
        """How members are averaged: one word, or one per output leaf by its path."""
        kinds = self.averages["eval"]
        if len(set(kinds)) == 1:
            return kinds[0]
        return dict(zip(nested.paths(self.interface.outputs["eval"]), kinds, strict=True))

    @property
    def digest(self) -> str:
        """A fingerprint of names, shapes, code and layers' settings: equal for networks that can exchange weights.

        Raises:
            PackError: a part was exchanged, of which another network knows nothing.
        """
        require_own_parts(self, "a network that weights are exchanged with")
        parts = [
            f"{name} {tuple(tensor.shape)}"
            for name, tensor in sorted(
                ((plain_name(name), tensor) for name, tensor in (*self.named_parameters(), *self.named_buffers())), key=lambda item: item[0]
            )
        ]
        graphs = [network.graphs[mode] for network in (self, self.member_template) for mode in ("eval", "train")]
        sources = {graph: str(written(graph).src) for graph in dict.fromkeys(graphs)}
        parts += [sources[graph] for graph in graphs]
        called = sorted({str(node.target) for graph in graphs for node in graph.find_nodes(op="call_module")})
        parts += [f"{name} {settings(part_of(self, name))}" for name in called]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The reference's arguments; ``"(m b) ..."`` in training mode, the average in evaluation mode.

        Raises:
            PackError: inputs are independent, and a batch is not M batches of one size.
        """
        independent = self.inputs == "independent" and (self.training or self.takes_members)
        if independent:
            self._require_batch_per_member(args, kwargs)
        outputs = self.run_form("independent", args, kwargs) if independent else self.run(*args, **kwargs)
        if self.training or self.gives_members:
            return self.restructure([_folded(output) for output in outputs])
        return self.restructure([averaged(output, how) for output, how in zip(outputs, self.averages["eval"], strict=True)])

    def members(self, *args: Any, **kwargs: Any) -> Any:
        """Every member's own output for one batch that all share, ``"m b ..."``, in either mode."""
        return self.restructure(list(self.run(*args, **kwargs)))

    def turn_form(self, mode: str) -> tuple[fx.Graph, nn.Module]:
        """The graph that runs one member on its share of the tensors, in ``"eval"`` or ``"train"`` mode, and a tree with their shapes."""
        return self.member_template.graphs[mode], self.member_template.body

    def reason_against_turns(self) -> str:
        """Why members cannot run one after the other in the mode that the network is in; empty where they can."""
        return ""

    def _require_batch_per_member(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for tensor in self.flat_inputs(args, kwargs):
            if not tensor.dim() or tensor.shape[0] % self.num_estimators:
                raise PackError(
                    "forward",
                    found=f"an input of shape {tuple(tensor.shape)} for {self.num_estimators} members",
                    why=f'inputs="independent" takes "(m b) ..." {"in every mode here" if self.takes_members else "in training mode"}, '
                    "one batch per member",
                    fix=f"pass {self.num_estimators} batches of one size, one after the other"
                    + ("" if self.takes_members else ', or set packed.inputs = "shared"'),
                )

    @torch.inference_mode(False)
    def extract(self, member: int) -> MemberNetwork:
        """Member `member` as a network of its own, with copies of its weights.

        Raises:
            PackError: there is no such member.
        """
        self.require_member(member)
        template = self.member_template
        exchanged = member_parts(self, member)

        def share(name: str, tensor: Tensor) -> Tensor:
            if any(name.startswith(f"{part}.") for part in exchanged):
                return tensor
            return self.member_tensor(name, member, tensor.shape).clone()

        return template.over(self.tree_of_member(template.body, share, exchanged))

    def require_member(self, member: Any) -> None:
        """Refuse what is no number of a member.

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

    def tree_of_member(self, template: nn.Module, share: MakeTensor, exchanged: Mapping[str, nn.Module]) -> nn.Module:
        """The module tree of a member alone, its layers in the modes and with the settings that they have here.

        Args:
            template: the tree to follow.
            share: gives a member's tensor by its name, or None for what it does not have.
            exchanged: a member's share of the parts that were exchanged, by name.
        """
        body = build_tree(template, share, self.leaves)
        for name, parameter in body.named_parameters():
            if not any(name.startswith(f"{part}.") for part in exchanged):
                parameter.requires_grad_(not is_frozen(self, name))
        whole = leaf_names(body, self.leaves)
        for name, part in body.named_modules():
            if name not in whole:
                state_sizes(part)
        for name, part in body.named_modules():
            for setting in LAYER_SETTINGS & vars(part).keys():
                setattr(part, setting, getattr(part_of(self, name), setting, getattr(part, setting)))
        for name, part in exchanged.items():
            path, _, own = name.rpartition(".")
            body.get_submodule(path)._modules[own] = part
        return body

    def member_tensor(self, name: str, member: int, shape: torch.Size) -> Tensor:
        """Member `member`'s share of the tensor called `name`, in the member's own `shape`."""
        return member_share(name, held_tensor(self, name), self.num_estimators, member, shape)

    def replace(self, which: Any, make: Callable[[nn.Module], nn.Module]) -> list[str]:
        """Exchange all parts of a kind: ``packed.replace(nn.ReLU, lambda old: nn.SiLU())``.

        Args:
            which: a type of modules, a tuple of types, or a function that says of a module whether it is meant.
            make: gives the new part for an old one.

        Returns:
            The names of the parts that were exchanged.

        Raises:
            PackError: there is no such part, or a new one does not fit.
        """
        return replace_parts(self, which, make)

    def resize(self, name: str, size: int, *, seed: int = 0) -> None:
        """Give every member a new head: the layer called `name` gets `size` output features per member, drawn anew.

        Optimisers and wrappers hold the old parameters: make them afterwards.

        Raises:
            PackError: there is no such layer, or what reads it needs the size that it has.
        """
        resize_layer(self, name, size, seed)


def member_share(name: str, packed: Tensor, members: int, member: int, shape: torch.Size) -> Tensor:
    """A view of member `member`'s share of the packed tensor called `name`, ``"(m a) ..."``, in the member's own `shape`."""
    packed = packed.detach()
    if not packed.dim() or is_constant(name):
        return packed
    return packed.chunk(members)[member].view(shape)


def _folded(output: Any) -> Any:
    if not isinstance(output, Tensor):
        return output
    return merge_members(output, 0) if output.dim() > 1 else output
