"""The strategy and memory format that are fastest on this device, for inputs like these, by measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, get_args

import torch
from torch import Tensor

from packify.core import nested
from packify.core.errors import PackError, SpecError
from packify.execution.choices import Choice, Mode, key_of, merged
from packify.execution.defaults import default_strategy
from packify.execution.formats import (
    FORMATS,
    copy_in_format,
    format_of,
    has_inner_convs,
    inputs_in_format,
    runs_in_channels_last,
    to_format,
)
from packify.execution.measuring import Progress, Timing, measure_by_turns
from packify.execution.plans import batch_of
from packify.execution.strategies import AUTO, STRATEGIES
from packify.execution.tuning_parts import LEAST_GAIN, faster_in_turn
from packify.nn.packed_network import PackedNetwork


@dataclass(frozen=True)
class Tried:
    """One way to run the network, and what it took.

    Attributes:
        strategy, memory_format: the way.
        seconds: the median over the rounds; infinite where it could not be run.
        least: of the fastest call.
        spread: half of the distance between the quartiles, as a share of the median.
        rounds: how often it was timed.
        note: why it was left out, if so.
        parts: those that ran in another way, by dotted name.
    """

    strategy: str
    memory_format: str
    seconds: float
    least: float
    spread: float
    rounds: int
    note: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The strategy, and how many parts run in another way."""
        return f"{self.strategy}, {len(self.parts)} in turn" if self.parts else self.strategy


@dataclass(frozen=True)
class Tuning:
    """What `tune` has tried, the choice first and then the fastest, and what it has chosen."""

    choice: Choice
    tried: tuple[Tried, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The choice and the table, for JSON; seconds that are not finite are None."""
        none = {"seconds": None, "least": None}
        rows = [asdict(one) | ({} if one.rounds else none) for one in self.tried]
        return {"choice": self.choice.to_dict(), "tried": rows}

    def __str__(self) -> str:
        best = self.tried[0].seconds
        choice = self.choice
        head = f"{choice.mode} at batch {choice.batch} on {choice.device}, {choice.dtype}"
        lines = [head + (f", {choice.threads} thread{'s' * (choice.threads != 1)}" if choice.threads else "")]
        width = max(len(one.label) for one in self.tried)
        for one in self.tried:
            took = f"{1e3 * one.seconds:9.2f} ms  {one.seconds / best:5.2f}x  +-{100 * one.spread:3.0f} %" if one.rounds else " " * 28
            lines.append(f"  {one.label:<{width}} {one.memory_format:<13} {took}  {one.note}".rstrip())
        return "\n".join(lines)


def tune_network(
    network: PackedNetwork, inputs: Any, *, mode: str = "infer", budget_s: float = 30.0, progress: Progress | None = None
) -> Tuning:
    """Measure every strategy in both memory formats on copies of `network`, and let it use the fastest for inputs like these.

    The network is changed last of all, once everything is known: whatever interrupts the measuring leaves it as it was. Chosen are the
    memory format of its weights, and the strategy of calls on this device, in this dtype, at batches from half to twice this one.

    Args:
        network: on the device, in the memory and dtype that it will be used in.
        inputs: what it is called with: a tensor, a tuple, or a dict of keyword arguments.
        mode: ``"infer"`` measures calls without gradients in evaluation mode, ``"train"`` a forward and a backward pass.
        budget_s: seconds that it may take, about; every way is run at least twice, and those that may be the fastest three times more.
        progress: is told how far it is.

    Raises:
        SpecError: mode or budget is none.
        PackError: the inputs do not fit, or are elsewhere than the network; or no way could be run.
    """
    args, kwargs = _arguments(inputs)
    _check(network, mode, budget_s, args, kwargs)
    train = mode == "train"
    tensors = network.flat_inputs(args, kwargs)
    device = tensors[0].device if tensors else torch.device("cpu")
    ways = _ways(network, device, train)
    with torch.set_grad_enabled(train):
        usual = default_strategy(network, device, tensors), format_of(network)
    copies = {name: copy_in_format(network, name, train=train) for name in {name for _, name in ways}}
    functions = {
        f"{strategy}, {name}": _step(copies[name], strategy, inputs_in_format((args, kwargs), name), train) for strategy, name in ways
    }
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        own_progress = _part_of(progress, 0, _WHOLE)
        timings = measure_by_turns(
            functions,
            device=device,
            budget_s=_WHOLE * budget_s,
            least_rounds=_LEAST_ROUNDS,
            narrowing=True,
            kept=[", ".join(usual)],
            progress=own_progress,
        )
        tried = _best_first([_tried(way, timings[key]) for way, key in zip(ways, functions, strict=True)], usual)
        best = tried[0]
        if not best.rounds:
            raise PackError(
                "tune", found=best.note, why="no way to run the network works with these inputs", fix="call packed(x) to see the error"
            )
        if network.num_estimators > 1 and network.suited_strategies is None and best.strategy in ("grouped", "in turn"):
            given = inputs_in_format((args, kwargs), best.memory_format)
            tried = _with_parts(copies[best.memory_format], given, tried, train=train, device=device, budget_s=budget_s, progress=progress)
            best = tried[0]
    batch = batch_of(tensors)
    with torch.set_grad_enabled(train):
        key = key_of(device, tensors, train=train)
    choice = Choice(*key[:3], mode, batch, (batch + 1) // 2, 2 * batch, best.strategy, best.memory_format, best.parts)  # type: ignore[arg-type]
    _apply(network, choice)
    return Tuning(choice, tuple(tried))


# The share of the time that is for the network as a whole; the rest is for its parts.
_WHOLE = 0.7
_LEAST_ROUNDS = 3


def _best_first(tried: list[Tried], usual: tuple[str, str]) -> list[Tried]:
    """Fastest first; but before all others the way that runs untuned, where none is faster by more than chance."""
    tried = sorted(tried, key=_speed)
    own = next((one for one in tried if (one.strategy, one.memory_format) == usual and not one.note), None)
    if own is None:
        return tried
    best = next(one for one in tried if one is own or _is_faster(one, own))
    return [best, *(one for one in tried if one is not best)]


def _is_faster(one: Tried, other: Tried) -> bool:
    """By more than chance: in the median and in the fastest call, for in a few rounds a swing of the machine may decide one of them."""
    return one.seconds < (1 - LEAST_GAIN) * other.seconds and one.least < other.least


def _with_parts(
    network: PackedNetwork,
    inputs: Any,
    tried: list[Tried],
    *,
    train: bool,
    device: torch.device,
    budget_s: float,
    progress: Progress | None,
) -> list[Tried]:
    """The same with the network whose parts run as each is faster; first, if that is the fastest of all."""
    best, half = tried[0], (1 - _WHOLE) / 2
    steps = {"best": _step(network, best.strategy, inputs, train)}
    grouped, own_progress = _step(network, "grouped", inputs, train), _part_of(progress, _WHOLE, half)
    paths = faster_in_turn(network, grouped, train=train, device=device, budget_s=half * budget_s, progress=own_progress)
    if not paths:
        return tried
    parts = dict.fromkeys(paths, "in turn")
    steps["parts"] = _step(network, "grouped", inputs, train, parts)
    timings = measure_by_turns(steps, device=device, budget_s=half * budget_s, progress=_part_of(progress, _WHOLE + half, half))
    row = replace(_tried(("grouped", best.memory_format), timings["parts"]), parts=parts)
    own = replace(best, seconds=timings["best"].median, least=timings["best"].least)
    return [row, *tried] if _is_faster(row, own) else [best, *sorted([row, *tried[1:]], key=_speed)]


def _part_of(progress: Progress | None, start: float, share: float) -> Progress | None:
    """Progress of a piece of the work."""
    return None if progress is None else lambda gone, what: progress(start + share * gone, what)


def _apply(network: PackedNetwork, choice: Choice) -> None:
    executor: Any = network.executor
    before = format_of(network)
    try:
        if before != choice.memory_format:
            to_format(network, choice.memory_format)
    except BaseException:
        to_format(network, before)
        raise
    executor.choices, executor.strategy, executor.parts = merged(executor.choices, choice), AUTO, {}


def _check(network: PackedNetwork, mode: str, budget_s: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if mode not in get_args(Mode):
        raise SpecError("mode", found=repr(mode), why="a network is tuned to infer or to train", fix='pass mode="infer" or mode="train"')
    if not isinstance(budget_s, (int, float)) or not 0 < budget_s < float("inf"):
        raise SpecError("budget_s", found=repr(budget_s), why="tuning takes time: a number of seconds above 0", fix="pass budget_s=30")
    if mode == "train" and network.fused:
        raise SpecError("mode", found="'train'", why="a fused network is for inference", fix='pass mode="infer"')
    tensors = network.flat_inputs(args, kwargs)
    own = {tensor.device for tensor in (*network.parameters(), *network.buffers())}
    for tensor in tensors:
        if own and tensor.device not in own:
            where = ", ".join(map(str, own))
            raise PackError("tune", found=f"an input on {tensor.device}", why=f"the network is on {where}", fix=f'x.to("{where}")')
    if any(device.type == "meta" for device in own):
        raise PackError("tune", found="a network without data", why="there is nothing to compute with", fix="give it weights first")
    examples = [leaf for leaf in nested.leaves(network.example_inputs) if isinstance(leaf, Tensor)]
    for tensor, example in zip(tensors, examples, strict=False):
        if tensor.dim() != example.dim():
            why = f"the network was packed for {tuple(example.shape)}, the first axis being the batch"
            raise PackError(
                "tune", found=f"an input of shape {tuple(tensor.shape)}", why=why, fix="pass a batch as you will call the network with"
            )


def _ways(network: PackedNetwork, device: torch.device, train: bool) -> list[tuple[str, str]]:
    """Strategies and memory formats, the network's own format first; without inner convs there is nothing that a format changes."""
    own = format_of(network)
    convs = has_inner_convs(network)
    both = convs and (own == "channels_last" or runs_in_channels_last(network))
    names = [own, *(name for name in FORMATS if name != own)] if both else [own]
    suited = STRATEGIES if network.suited_strategies is None else network.suited_strategies
    strategies = [name for name in suited if STRATEGIES[name].device in ("", device.type)]
    if network.reason_against_turns():
        strategies = [name for name in strategies if name == "grouped"]
    if "threads" in strategies and device.type == "cpu" and torch.get_num_threads() < 2:
        strategies.remove("threads")
    if train and "cuda graph" in strategies:
        strategies.remove("cuda graph")
    if not convs:
        strategies = [name for name in strategies if name not in ("batched", "per layer")]
    if network.num_estimators == 1:
        strategies = ["grouped"]
    return [(strategy, name) for name in names for strategy in strategies]


def _step(
    network: PackedNetwork, strategy: str, inputs: Any, train: bool, parts: Mapping[str, str] = MappingProxyType({})
) -> Callable[[], None]:
    args, kwargs = inputs
    executor: Any = network.executor
    call = network if train and network.inputs == "independent" else network.members

    def infer() -> None:
        executor.strategy, executor.parts = strategy, parts
        with torch.no_grad():
            network(*args, **kwargs)

    def step() -> None:
        executor.strategy, executor.parts = strategy, parts
        network.zero_grad(set_to_none=True)
        with torch.enable_grad():
            outputs = [leaf for leaf in nested.leaves(call(*args, **kwargs)) if isinstance(leaf, Tensor) and leaf.requires_grad]
            torch.autograd.backward([output.float().square().mean() for output in outputs])

    return step if train else infer


def _speed(one: Tried) -> tuple[bool, float]:
    return bool(one.note), one.seconds


def _tried(way: tuple[str, str], timing: Timing) -> Tried:
    return Tried(*way, timing.median, timing.least, timing.spread, len(timing.seconds), timing.note)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, dict):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, (tuple, list)) else ((inputs,), {})
