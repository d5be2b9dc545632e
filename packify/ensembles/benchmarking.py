"""A packed network's speed next to what it replaces: the single network, its members in turn or under vmap, a Deep Ensemble.

All contenders are called by turns in one process, in both memory formats. Ratios are to the single network in its faster format. The
roofline is the time that Mult-Adds take at the device's best matrix product, or that bytes take at its best copy, whichever is longer:
it tells what binds a network, and how much of the device it uses.
"""

from __future__ import annotations

import contextlib
import copy
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from packify.budgets.cost import Budget, Cost
from packify.core import nested
from packify.core.errors import PackError, SpecError
from packify.execution.choices import device_name
from packify.execution.formats import FORMATS, copy_in_format, inputs_in_format, to_format
from packify.execution.measuring import Progress, Timing, measure_by_turns, seconds_of
from packify.execution.memory import peak_bytes
from packify.nn.packed_network import PackedNetwork


@dataclass(frozen=True)
class Line:
    """One contender at one batch.

    Attributes:
        contender, memory_format: what ran.
        batch: samples of a call.
        mode: ``"infer"``, or ``"train"`` with a backward pass.
        seconds: the median; None where it did not run.
        least: of the fastest call, which whatever else the machine does has disturbed the least; 0 where it did not run.
        spread: half of the distance between the quartiles, as a share of the median.
        rounds: how often it was timed.
        per_second: samples.
        to_single: times the single network, in its faster memory format.
        to_mult_adds: the same over the ratio of Mult-Adds.
        roofline: the share of what the device could do.
        bound: what binds at the roofline, ``"compute"`` or ``"memory"``.
        peak_bytes: memory at once, besides the weights; None where it is not known.
        note: why it did not run, or what tuning has chosen.
    """

    contender: str
    memory_format: str
    batch: int
    mode: str
    seconds: float | None
    least: float
    spread: float
    rounds: int
    per_second: float
    to_single: float
    to_mult_adds: float
    roofline: float
    bound: str
    peak_bytes: int | None
    note: str = ""


@dataclass(frozen=True)
class Bench:
    """All lines, and where they were measured.

    Attributes:
        device, dtype, threads, torch: of the measurement.
        mult_adds_per_s, bytes_per_s: the device's best.
        lines: fastest first within a batch and mode.
    """

    device: str
    dtype: str
    threads: int
    torch: str
    mult_adds_per_s: float
    bytes_per_s: float
    lines: tuple[Line, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain, JSON-able values."""
        return asdict(self) | {"lines": [asdict(line) for line in self.lines]}


def bench(
    reference: nn.Module,
    packed: PackedNetwork,
    inputs: Callable[[int], Any],
    budget: Budget,
    *,
    batches: Sequence[int],
    modes: Sequence[str] = ("infer",),
    compiled: Collection[str] = (),
    budget_s: float = 30.0,
    least_rounds: int = 0,
    narrowing: bool = False,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Bench:
    """Measure.

    Args:
        reference: the single network; neither it nor `packed` is changed.
        packed: on the same device, in the same dtype.
        inputs: gives the inputs of a batch.
        budget: of `packed`, for Mult-Adds and bytes.
        batches: samples of a call.
        modes: ``"infer"``, ``"train"`` or both.
        compiled: what is also compiled: ``"single"``, ``"packed"``, ``"grouped"``, ``"in turn"``, ``"vmap"``.
        budget_s: seconds for each batch and mode, about; tuning takes a third of it, and compiling is not counted.
        least_rounds, narrowing, clock: as `measure_by_turns` takes them.
        progress: is told how far it is.

    Raises:
        SpecError: there is no batch.
    """
    if not batches or min(batches) < 1:
        raise SpecError("batch", found=str(list(batches)), why="a call has at least one sample", fix="pass batches=[1, 16]")
    first = next(iter(packed.parameters()))
    device, dtype = first.device, first.dtype
    compute, copying = _best(device, dtype)
    lines: list[Line] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for mode in modes:
            for batch in batches:
                x = inputs(batch)
                functions = contenders(reference, packed, x, train=mode == "train", compiled=compiled, tuning_s=budget_s / 3)
                for key, function in functions.items():
                    if "compiled" in key:  # which takes a minute at the first call; what fails says so when it is timed
                        with contextlib.suppress(Exception):
                            function()
                timings = measure_by_turns(
                    functions,
                    device=device,
                    budget_s=2 * budget_s / 3,
                    least_rounds=least_rounds,
                    too_slow=3.0 if narrowing else 6.0,
                    narrowing=narrowing,
                    kept=[key for key in functions if key.startswith(("single", "packed"))],
                    progress=progress,
                    clock=clock,
                )
                measured = _Measured(functions, timings, batch, mode, budget, device, (compute, copying))
                lines += sorted((measured.line(key) for key in functions), key=lambda line: line.seconds or float("inf"))
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    return Bench(device_name(device), str(dtype).removeprefix("torch."), threads, torch.__version__, compute, copying, tuple(lines))


def contenders(
    reference: nn.Module, packed: PackedNetwork, x: Any, *, train: bool, compiled: Collection[str], tuning_s: float
) -> dict[str, Callable[[], None]]:
    """What is measured, by ``"name, memory format"``, each on a copy of its own."""
    found: dict[str, Callable[[], None]] = {}
    own = copy.deepcopy(packed).train(train)
    found["packed as converted, its own"] = _pass(own, own.members, x, train)
    found["packed tuned, its own"] = _Tuned(packed, x, train, tuning_s)
    for name in FORMATS:
        given, single = inputs_in_format(x, name), copy_in_format(reference, name, train=train)
        found[f"single, {name}"] = _pass(single, single, given, train)
        for strategy in _written_by_hand(packed, train):
            network = copy_in_format(packed, name, train=train)
            network.strategy = strategy
            found[f"{strategy}, {name}"] = _pass(network, network.members, given, train)
        found[f"vmap, {name}"] = _under_vmap(packed, given, name, train)
        many = [copy.deepcopy(single) for _ in range(packed.num_estimators)]
        found[f"Deep Ensemble, {name}"] = _one_after_the_other([_pass(one, one, given, train) for one in many])
        found |= {f"{label} compiled, {name}": call for label, call in _compiled(single, packed, given, name, train, compiled).items()}
    if "packed" in compiled:
        own = copy.deepcopy(packed).train(train)
        own.compile()
        found["packed compiled, its own"] = _pass(own, own, x, train)
    return found


def _written_by_hand(packed: PackedNetwork, train: bool) -> tuple[str, ...]:
    """The strategies that users would write themselves on this device."""
    if next(packed.parameters()).device.type != "cuda":
        return "grouped", "in turn"
    return ("grouped", "in turn", "streams", *(() if train else ("cuda graph",)))


def _compiled(
    single: nn.Module, packed: PackedNetwork, x: Any, name: str, train: bool, which: Collection[str]
) -> dict[str, Callable[[], None]]:
    """What a compiler makes of the single network and of ways that are written by hand."""
    found: dict[str, Callable[[], None]] = {}
    if "single" in which:
        alone = copy.deepcopy(single)
        alone.compile()
        found["single"] = _pass(alone, alone, x, train)
    if "vmap" in which:
        found["vmap"] = _under_vmap(packed, x, name, train, compiled=True)
    for strategy in ("grouped", "in turn"):
        if strategy in which:
            network = copy_in_format(packed, name, train=train)
            network.strategy = strategy
            network.compile(freeze=False)
            found[strategy] = _pass(network, network, x, train)
    return found


class _Tuned:
    """The tuned network, and a note of what was chosen; where no way to run it works, such as batch norm on one value, a call says why."""

    def __init__(self, packed: PackedNetwork, x: Any, train: bool, tuning_s: float) -> None:
        tuned, self.note = copy.deepcopy(packed).train(train), ""
        with contextlib.suppress(PackError):
            chosen = tuned.tune(x, mode="train" if train else "infer", budget_s=tuning_s).tried[0]
            self.note = f"{chosen.label}, {chosen.memory_format}"
        self._pass = _pass(tuned, tuned.members, x, train)

    def __call__(self) -> None:
        self._pass()


def _called(call: Callable[..., Any], x: Any) -> list[Tensor]:
    out = call(**x) if isinstance(x, dict) else call(*x) if isinstance(x, (tuple, list)) else call(x)
    return [leaf for leaf in nested.leaves(out) if isinstance(leaf, Tensor)]


def _pass(network: nn.Module, call: Callable[..., Any], x: Any, train: bool) -> Callable[[], None]:
    def infer() -> None:
        with torch.no_grad():
            _called(call, x)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        outputs = [output for output in _called(call, x) if output.requires_grad]
        torch.autograd.backward([output.float().square().mean() for output in outputs])

    return step if train else infer


def _one_after_the_other(functions: Sequence[Callable[[], None]]) -> Callable[[], None]:
    def run() -> None:
        for function in functions:
            function()

    return run


def _under_vmap(packed: PackedNetwork, x: Any, name: str, train: bool, *, compiled: bool = False) -> Callable[[], None]:
    singles = [packed.extract(member).train(train) for member in range(packed.num_estimators)]
    for single in singles:
        to_format(single, name)
    parameters, buffers = stack_module_state(singles)
    skeleton = singles[0]

    def one(values: dict[str, Tensor], state: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(_called(lambda *args, **kwargs: functional_call(skeleton, (values, state), args, kwargs), x))

    call = vmap(one, in_dims=(0, 0), randomness="different")
    call = torch.compile(call) if compiled else call

    def run() -> None:
        with torch.set_grad_enabled(train), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)  # that is what is measured
            outputs = call(parameters, buffers)
        if train:
            wanted = [value for value in parameters.values() if value.requires_grad]
            torch.autograd.grad([output.float().square().mean() for output in outputs], wanted, allow_unused=True)

    return run


@dataclass(frozen=True)
class _Measured:
    """The timings of one batch and mode."""

    functions: Mapping[str, Callable[[], None]]
    timings: Mapping[str, Timing]
    batch: int
    mode: str
    budget: Budget
    device: torch.device
    best: tuple[float, float]

    def line(self, key: str) -> Line:
        name, _, memory_format = key.partition(", ")
        timing = self.timings[key]
        if not timing.seconds:
            return Line(name, memory_format, self.batch, self.mode, None, 0.0, 0.0, 0, 0.0, 0.0, 0.0, 0.0, "", None, timing.failure)
        single = min(one.median for own, one in self.timings.items() if own.startswith("single, "))
        ratio = timing.median / single
        cost, more = self._cost(name)
        least, bound = self._roofline(cost)
        peak = None if "compiled" in name else peak_bytes(self.functions[key], self.device)
        return Line(
            contender=name,
            memory_format=memory_format,
            batch=self.batch,
            mode=self.mode,
            seconds=timing.median,
            least=timing.least,
            spread=timing.spread,
            rounds=len(timing.seconds),
            per_second=self.batch / timing.median,
            to_single=ratio,
            to_mult_adds=ratio / more if more else float("nan"),
            roofline=least / timing.median,
            bound=bound,
            peak_bytes=peak,
            note=timing.note or getattr(self.functions[key], "note", ""),
        )

    def _cost(self, name: str) -> tuple[Cost, float]:
        """What a contender computes, and its Mult-Adds over the single network's."""
        if name.startswith("single"):
            return self.budget.reference, 1.0
        if name == "Deep Ensemble":
            return self.budget.deep_ensemble, float(self.budget.spec.num_estimators)
        return self.budget.packed, self.budget.mult_adds_ratio

    def _roofline(self, cost: Cost) -> tuple[float, str]:
        """The least seconds, and what they are spent on: activations are written and read once, and a backward pass is two more."""
        passes = 3 if self.mode == "train" else 1
        members = self.budget.spec.num_estimators if cost is self.budget.deep_ensemble else 1
        moved = passes * (cost.total_weight_bytes + 2 * self.batch * cost.training_bytes * members)
        compute, memory = passes * self.batch * cost.mult_adds / self.best[0], moved / self.best[1]
        return max(compute, memory), "compute" if compute >= memory else "memory"


def _best(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Mult-Adds per second of a large matrix product, and bytes per second of a large copy, the best of a few."""
    size = 4096 if device.type == "cuda" else 1024
    a, b = torch.randn(size, size, device=device, dtype=dtype), torch.randn(size, size, device=device, dtype=dtype)
    place = torch.empty(2**26, dtype=torch.uint8, device=device)
    other = torch.empty_like(place)
    product = min(seconds_of(lambda: a @ b, device) for _ in range(5))
    moved = min(seconds_of(lambda: place.copy_(other), device) for _ in range(5))
    return size**3 / product, 2 * place.numel() / moved
