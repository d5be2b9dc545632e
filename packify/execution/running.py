"""How a packed network is run: the strategy that it was given, or the one that suits a call."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from packify.execution.choices import Choice, nearest
from packify.execution.compiling import compile_network, strategy_to_compile
from packify.execution.defaults import default_strategy, least_batch_in_turn
from packify.execution.fusing import fuse
from packify.execution.member_tensors import NotPlain, is_watched
from packify.execution.mixing import require_parts
from packify.execution.plans import Plans
from packify.execution.strategies import AUTO, STRATEGIES, require_device, require_known
from packify.execution.tuning import Tuning, tune_network
from packify.execution.turns import Turn, turns_of
from packify.nn.packed_network import PackedNetwork


class Execution:
    """What a packed network asks before it runs a graph.

    Attributes:
        strategy: a name in `STRATEGIES`, or ``"auto"``.
        parts: the strategies of parts that have their own, by dotted name.
        choices: what tuning has found.
        compiled: the strategy of calls that are compiled or traced, if none was chosen.
        compiled_from: the least batch of such calls; smaller ones run grouped.
    """

    def __init__(self, strategy: str = AUTO, choices: Sequence[Choice] = ()) -> None:
        self.strategy, self.choices, self.compiled, self.compiled_from = strategy, tuple(choices), "grouped", 0.0
        self.parts: Mapping[str, str] = {}
        self._plans: Plans | None = None
        self._suited = _Remembered(self.choices)

    def choose(self, network: PackedNetwork, name: object) -> None:
        """Run `network` by this strategy from now on.

        Raises:
            SpecError: there is no such strategy, or not for the network's device.
        """
        known = require_known(name, network.suited_strategies)
        require_device(known, device_of(network))
        self.strategy, self.parts = known, {}
        self.prepare(network, known)

    def choose_parts(self, network: PackedNetwork, parts: Mapping[str, object]) -> None:
        """Run these parts of `network` by these strategies from now on, and the rest by the network's.

        Raises:
            SpecError: there is no such part or strategy, or it cannot be run so.
        """
        self.parts = require_parts(network, self.strategy, parts)
        if self.parts and network.num_estimators > 1:
            for inputs_are, mode in itertools.product(network.forms, ("eval", "train")):
                self._plans_of(network).mixed(network, self.strategy, self.parts, inputs_are, mode)

    def prepare(self, network: PackedNetwork, name: str) -> None:
        """Make what a strategy needs, so that a compiler that follows the first call finds it."""
        if name not in (AUTO, "grouped") and network.num_estimators > 1:
            STRATEGIES[name].prepare(name, network, self._plans_of(network))

    def run(self, network: PackedNetwork, inputs_are: str, inputs: Sequence[Tensor]) -> tuple[Any, ...] | None:
        """The flat outputs ``"m b ..."`` of a call, or None where the network's own modules are to be called.

        Args:
            network: of which this is.
            inputs_are: ``"shared"`` or ``"independent"``.
            inputs: of the graph.
        """
        name, parts = self.strategy, self.parts
        if name == AUTO and not parts:
            name, parts = self.suited(network, inputs)
        if (name == "grouped" and not parts) or network.num_estimators == 1:
            return None
        if self._plans is None and torch.compiler.is_compiling():
            return None  # what a compiler follows makes no graphs: see `prepare`
        plans = self._plans_of(network)
        if network.reason_against_turns() or plans.whole.reason_against(network):
            return None
        try:
            if parts:
                function = plans.mixed(network, name, parts, inputs_are)
                return None if function is None else function(network.body, *inputs)
            return STRATEGIES[name].run(network, plans, inputs_are, inputs)
        except NotPlain:
            return None

    def suited(self, network: PackedNetwork, inputs: Sequence[Tensor]) -> tuple[str, Mapping[str, str]]:
        """The strategy of a call that none was chosen for, and those of parts: what was measured for calls like it, or a default."""
        if is_watched():
            batch: Any = next((one.shape[0] for one in inputs if one.dim()), None)
            return "grouped" if isinstance(batch, int) and batch < self.compiled_from else self.compiled, {}
        remembered = self._suited  # threads may call at once
        if remembered.choices is not self.choices or len(remembered.found) > _MOST_REMEMBERED:
            remembered = self._suited = _Remembered(self.choices)
        key = _all_that_matters(inputs, training=network.training)
        found = remembered.found.get(key)
        if found is None:
            found = remembered.found[key] = self._suited_anew(network, inputs)
        return found

    def _suited_anew(self, network: PackedNetwork, inputs: Sequence[Tensor]) -> tuple[str, Mapping[str, str]]:
        device = next((one.device for one in inputs), torch.device("cpu"))
        found = nearest(self.choices, device, inputs, training=network.training)
        if found is not None:
            return found.strategy, found.parts
        return default_strategy(network, device, inputs), {}

    def reason_against(self, network: PackedNetwork) -> str:
        """Why the network runs grouped, whatever its strategy; empty where it does not."""
        if network.num_estimators == 1:
            return "one member is the network itself"
        return network.reason_against_turns() or self._plans_of(network).whole.reason_against(network)

    def turns(self, network: PackedNetwork) -> Iterator[Turn]:
        """Every member, to be trained one after the other.

        Raises:
            PackError: modules have to be called that a member's own graph does not call.
        """
        return turns_of(network, self._plans_of(network))

    def fuse(self, network: PackedNetwork) -> PackedNetwork:
        """A copy for inference, with batch norms folded; see `packify.execution.fusing`.

        Raises:
            PackError: the network, or a part of it, is in training mode.
        """
        return fuse(network)

    def compile(self, network: PackedNetwork, freeze: bool | None, **settings: Any) -> None:
        """Let calls run compiled code, of the strategy that suits a compiler on this device if none was chosen."""
        device = device_of(network)
        self.compiled = strategy_to_compile(network, device)
        chosen = network.suited_strategies is None and device.type == "cpu"
        self.compiled_from = least_batch_in_turn(network) if chosen else 0.0
        self.prepare(network, self.compiled)
        compile_network(network, device, freeze, **settings)

    def tune(self, network: PackedNetwork, inputs: Any, **settings: Any) -> Tuning:
        """Measure every strategy and use the fastest for inputs like these; see `packify.execution.tuning`.

        Raises:
            SpecError, PackError: as `tune_network` does.
        """
        return tune_network(network, inputs, **settings)

    def _plans_of(self, network: PackedNetwork) -> Plans:
        if self._plans is None:
            self._plans = Plans(network)
        return self._plans

    def release(self) -> None:
        """Let go of views of tensors: the network gets others."""
        if self._plans is not None:
            self._plans.release()

    def forget(self) -> None:
        """Drop what was made of the network's graphs, tensors and modules: they have changed."""
        self._plans, self._suited = None, _Remembered(self.choices)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": None, "_suited": _Remembered(self.choices)}

    def __deepcopy__(self, memo: dict[int, Any]) -> Execution:
        made = type(self).__new__(type(self))
        made.__dict__ |= self.__getstate__()
        return made


_MOST_REMEMBERED = 256


class _Remembered:
    """The strategies of calls that there were, for small networks would spend a sixth of a call on looking them up."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.choices = choices
        self.found: dict[Any, tuple[str, Mapping[str, str]]] = {}


def _all_that_matters(inputs: Sequence[Tensor], *, training: bool) -> tuple[Any, ...]:
    """Calls for which this is equal are run alike."""
    about = [(one.shape, one.dtype, one.device) for one in inputs]
    kind = about[0][2].type if about else "cpu"
    autocast = kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
    return training, torch.is_grad_enabled(), torch.get_num_threads(), autocast, *about


def device_of(network: PackedNetwork) -> torch.device:
    """Where a network's first tensor lies."""
    return next((tensor.device for tensor in (*network.parameters(), *network.buffers())), torch.device("cpu"))
