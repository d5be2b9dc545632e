"""A network whose graphs can be run in several ways: strategies, members in turn, tuning, and copies for inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from packify.core.errors import PackError
from packify.nn.graph_network import GraphNetwork
from packify.nn.owners import own_parts


class Executor(Protocol):
    """What runs the graphs of a packed network in another way than its modules do."""

    @property
    def strategy(self) -> str:
        """The name of the way."""

    @property
    def parts(self) -> Mapping[str, str]:
        """The ways of parts that have their own, by dotted name."""

    def choose(self, network: Any, name: object) -> None:
        """Take another way, for the whole network."""

    def choose_parts(self, network: Any, parts: Mapping[str, object]) -> None:
        """Take other ways for these parts, and for no others."""

    def run(self, network: Any, inputs_are: str, inputs: Sequence[Tensor]) -> tuple[Any, ...] | None:
        """The flat outputs ``"m b ..."``, or None where the modules are to be called."""

    def turns(self, network: Any) -> Iterator[Any]:
        """Every member, to be trained one after the other."""

    def fuse(self, network: Any) -> Any:
        """A copy for inference."""

    def tune(self, network: Any, inputs: Any, **settings: Any) -> Any:
        """Choose a strategy by measurement."""

    def compile(self, network: Any, freeze: bool | None, **settings: Any) -> None:
        """Compile what a call runs."""

    def release(self) -> None:
        """The tensors are about to change."""

    def forget(self) -> None:
        """The graphs, tensors or modules have changed."""


class ExecutedNetwork(GraphNetwork):
    """A network that asks its executor how it is to be run; without one its own modules are called.

    Attributes:
        strategy: how the members are run: ``"auto"``, ``"grouped"``, ``"in turn"`` ... (`packify.execution.strategies`). It may be set at
            any time, and changes time and memory only. It is for the whole network: parts have no strategies of their own any longer.
        strategies: those of blocks and layers, by dotted name: ``{"layer1": "in turn", "layer4": "grouped"}``. The rest runs as `strategy`
            says, and grouped where that is ``"auto"``. ``packed.layer1.strategy = "in turn"`` adds to it. Hooks below a part in turn fire
            all the same: a network with hooks inside calls its modules, and runs grouped for as long as they are there.
        fused: made by `fuse`, for inference alone.
    """

    executor: Executor | None = None
    fused: bool = False
    suited_strategies: ClassVar[tuple[str, ...] | None] = None
    """The names of the strategies that suit such a network, the default one first; None are all."""

    @property
    def strategy(self) -> str:
        """How the members are run."""
        return "grouped" if self.executor is None else self.executor.strategy

    @strategy.setter
    def strategy(self, name: str) -> None:
        self._required_executor("strategy").choose(self, name)

    @property
    def strategies(self) -> dict[str, str]:
        """The strategies of parts that have their own, by dotted name."""
        return {} if self.executor is None else dict(self.executor.parts)

    @strategies.setter
    def strategies(self, parts: Mapping[str, str]) -> None:
        self._required_executor("strategies").choose_parts(self, parts)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("strategy", "strategies") and not isinstance(value, (Tensor, nn.Module)):  # a part of the reference may have that name
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def run_form(self, form: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The graph's outputs, flat, run by the network's strategy; see `GraphNetwork.run_form`."""
        if self.executor is not None:
            inputs_are = "independent" if form == "independent" else "shared"
            outputs = self.executor.run(self, inputs_are, self.flat_inputs(args, kwargs))
            if outputs is not None:
                return outputs
        return super().run_form(form, args, kwargs)

    def recompile(self) -> None:
        """Make the flat graphs as they are now what runs."""
        if self.executor is not None:
            self.executor.forget()
        super().recompile()
        own_parts(self, self.body)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        own_parts(self, self.body)

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]  # as torch's own
        if self.executor is not None:
            self.executor.release()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def turns(self) -> Iterator[Callable[..., Any]]:
        """Every member, to be trained one after the other in the memory of one.

        ``for member in packed.turns(): criterion(member(x), y).backward()`` adds the members' gradients to those of the packed parameters:
        afterwards they are those of the sum of the members' losses. Works with several batches before a step, and with autocast.

        Raises:
            PackError: hooks inside, exchanged parts, or parts in different modes: a member's own graph would not call them.
        """
        return self._required_executor("turns").turns(self)

    def fuse(self) -> Self:
        """A copy for inference: batch norms are folded into the convs and linear layers before them, dropout is gone.

        Outputs and every member's are the same up to rounding. The copy cannot be trained or saved.

        Raises:
            PackError: the network, or a part of it, is in training mode.
        """
        fused: Self = self._required_executor("fuse").fuse(self)
        return fused

    def tune(
        self, inputs: Any, *, mode: str = "infer", budget_s: float = 30.0, progress: Callable[[float, str], None] | None = None
    ) -> Any:
        """Measure every strategy, in both memory formats, on this device, and use the fastest for inputs like these from now on.

        Interrupted or failed, it leaves the network as it was. The choice is for this device, dtype, number of threads and mode, at batches
        from half to twice this one; an artefact keeps it, and several calls with other batches add to each other. What runs untuned stays
        unless another way is faster by 3 % in the median, and in the fastest call too.

        Args:
            inputs: what the network is called with: a tensor, a tuple, or a dict of keyword arguments.
            mode: ``"infer"``, or ``"train"`` for a forward and a backward pass.
            budget_s: seconds that it may take, about.
            progress: called with the share of the time that has gone, and what is measured.

        Returns:
            What was tried, fastest first, and the choice; ``print`` shows it as a table.

        Raises:
            SpecError: there is no such mode, or no time.
            PackError: the inputs do not fit, or are elsewhere than the network.
        """
        return self._required_executor("tune").tune(self, inputs, mode=mode, budget_s=budget_s, progress=progress)

    def compile(self, *, freeze: bool | None = None, **settings: Any) -> None:
        """As ``torch.nn.Module.compile``, with what is right for the device; what cannot be compiled runs as it is, and a warning says why.

        On a CPU the members of a network with strategy ``"auto"`` are unrolled, one after the other, where a call has 250 M Mult-Adds a
        member to do, and run grouped where it has less, which is faster then. Weights may be frozen: constants
        of the code that runs in evaluation mode without gradients, which takes their memory once more. Where they change afterwards a
        warning says so, and code that reads them runs instead; only single numbers that are written past torch, as
        ``weight.data[3] = 0`` does, may not be noticed: pass ``freeze=False`` or compile again.

        Args:
            freeze: True or False; None measures at the first call in evaluation mode without gradients, for about two seconds after
                compiling both ways, and not where the network was called in training mode before.
            settings: `torch.compile`'s.
        """
        if self.executor is None:
            super().compile(**settings)
        else:
            self.executor.compile(self, freeze, **settings)

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode, as torch sets it.

        Raises:
            PackError: the network was fused, so that it has no batch norms that could be trained.
        """
        if mode and self.fused:
            why = "its batch norms are folded into the layers before them"
            raise PackError("train", found="a fused network", why=why, fix="train the network that it was made from, and fuse that again")
        return super().train(mode)

    def _required_executor(self, what: str) -> Executor:
        if self.executor is None:
            raise PackError(what, found="a network without an executor", why="it was not made by packify.pack", fix="pack the reference")
        return self.executor
