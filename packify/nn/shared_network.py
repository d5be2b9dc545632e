"""M members that share their weights, and have a few tensors each of their own: what BatchEnsemble, Masksembles and MIMO have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, fx, nn

from packify.core.errors import PackError
from packify.core.method_report import MethodReport
from packify.core.method_specs import METHOD_TITLES, MethodSpec
from packify.nn.executed_network import Executor
from packify.nn.folding import Fold
from packify.nn.graph_network import Cut, Interface, MemberNetwork
from packify.nn.packed_network import PackedNetwork, Repacker, member_share
from packify.nn.wrappers import held_tensor


class SharedNetwork(PackedNetwork):
    """An ensemble in one forward pass whose members share most tensors; the methods are its subclasses.

    It is called as a packed network is: all members' outputs ``"(m b) ..."`` in training mode, their average in evaluation mode,
    ``members(x)`` in either. Tensors that members have of their own hold M of them on their leading axis, member-major:
    ``p.chunk(M)[m]`` is member m's.

    Attributes:
        spec: the method's settings.
        report: what was done and why.
        own: the names of the tensors that each member has of its own.
        added: the names of those that the reference does not have.
        folds: what is multiplied into a shared weight to make a member's, by the weight's name.
        coupled: shared norms, by their names, whose statistics in training mode are those of all members' activations.
        repacker: keeps the graphs of one member beside the shared weights.
    """

    spec: Any
    report: Any
    own: frozenset[str]
    added: frozenset[str]
    folds: Mapping[str, Fold]
    coupled: tuple[str, ...]
    repacker: Any
    suited_strategies: ClassVar[tuple[str, ...] | None] = ("grouped", "in turn", "threads")
    separable: ClassVar[bool] = True
    """Each member is a network of its own, see `extract`."""
    promises: ClassVar[tuple[str, ...]] = ()
    """What holds exactly, in words."""
    exceptions: ClassVar[tuple[str, ...]] = ()
    """What never holds, and why."""

    def __init__(
        self,
        body: nn.Module,
        graphs: Mapping[str, fx.Graph],
        member: MemberNetwork,
        interface: Interface,
        *,
        spec: MethodSpec,
        report: MethodReport,
        average: dict[str, list[str]],
        inputs: str,
        example_inputs: Any,
        batched: bool,
        repacker: Repacker,
        own: frozenset[str],
        added: frozenset[str],
        folds: Mapping[str, Fold],
        coupled: tuple[str, ...],
        leaves: tuple[type[nn.Module], ...] = (),
        output_choices: Mapping[str, str] | None = None,
        unused: frozenset[str] = frozenset(),
        cut: Cut | None = None,
        executor: Executor | None = None,
    ) -> None:
        given: Any = {"spec": spec, "report": report}
        super().__init__(
            body,
            graphs,
            member,
            interface,
            **given,
            average=average,
            inputs="shared",
            example_inputs=example_inputs,
            batched=batched,
            repacker=repacker,
            leaves=leaves,
            output_choices=output_choices,
            unused=unused,
            cut=cut,
            executor=executor,
        )
        state = self.__dict__
        state["own"], state["added"], state["folds"], state["coupled"] = own, added, dict(folds), coupled
        self.inputs = inputs  # type: ignore[assignment] # the setter checks it, and packs with all of the above

    @property
    def does_not_hold(self) -> tuple[str, ...]:
        """The laws that do not hold here, and why."""
        return (*self.exceptions, *((f"in training mode {_COUPLED}: members see each other there",) if self.coupled else ()))

    @property
    def method(self) -> str:
        """The method's name, such as ``"batch-ensemble"``."""
        return str(self.spec.method)

    def turn_form(self, mode: str) -> tuple[fx.Graph, nn.Module]:
        """The graph of one member, with what it has of its own beside the shared weights, and a tree with their shapes."""
        form: tuple[fx.Graph, nn.Module] = self.repacker.turn_form(mode)
        return form

    def reason_against_turns(self) -> str:
        """Why members cannot run one after the other in the mode that the network is in; empty where they can."""
        if not self.separable:
            return f"{METHOD_TITLES[self.method][0]}, whose members are one network between its first and its last layers"
        return f"training mode, in which {_COUPLED}" if self.training and self.coupled else ""

    def fuse(self) -> Self:
        """Refused: members' own tensors stand between the shared layers and their norms.

        Raises:
            PackError: always.
        """
        raise self._refused("fuse", "batch norms are folded into layers whose members share nothing", "fuse none: run it as it is")

    def resize(self, name: str, size: int, *, seed: int = 0) -> None:
        """Refused: a new head is one of the reference.

        Raises:
            PackError: always.
        """
        why = "a head is drawn anew for members that share nothing"
        raise self._refused(f"resize({name!r}, {size!r})", why, "give the reference its new head, and convert that")

    def _refused(self, what: str, why: str, fix: str) -> PackError:
        return PackError(what, found=METHOD_TITLES[self.method][0], why=why, fix=fix)

    def member_tensor(self, name: str, member: int, shape: torch.Size) -> Tensor:
        """Member `member`'s tensor called `name` of the extracted network, in that network's `shape`."""
        tensor = held_tensor(self, name).detach()
        if name in self.own:
            return member_share(name, tensor, self.num_estimators, member, shape)
        return self.folds[name].of_member(tensor, lambda factors: held_tensor(self, factors), member) if name in self.folds else tensor


_COUPLED = "shared batch norms take the statistics of all members' activations"
