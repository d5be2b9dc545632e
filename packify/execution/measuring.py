"""How long functions take against each other: run by turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch

_ROUNDS_FOR_ALL = 3
_CLOSE = 1.4
LEFT_OUT = "much slower, left out"
Progress = Callable[[float, str], None]
"""Called with the share of the time that has gone, and what is measured."""


@dataclass
class Timing:
    """What one function took.

    Attributes:
        seconds: of every round, in order.
        warm_up: of the calls before them; of a function that was left out then, they are its seconds too.
        failure: why it could not be run, if so.
        slow: it was left out after it had warmed up, being that much slower than the fastest.
    """

    seconds: list[float] = field(default_factory=list)
    warm_up: list[float] = field(default_factory=list)
    failure: str = ""
    slow: bool = False

    @property
    def median(self) -> float:
        """Seconds; infinite where it could not be run."""
        return statistics.median(self.seconds) if self.seconds else float("inf")

    @property
    def least(self) -> float:
        """Seconds of the fastest call; infinite where there is none."""
        return min((*self.seconds, *self.warm_up), default=float("inf"))

    @property
    def note(self) -> str:
        """Why there are no more rounds of it, if so."""
        return self.failure or (LEFT_OUT if self.slow else "")

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles, as a share of the median."""
        if len(self.seconds) < 4:
            return 0.0
        first, _, third = statistics.quantiles(self.seconds, n=4)
        return (third - first) / 2 / self.median


def measure_by_turns(
    functions: Mapping[str, Callable[[], object]],
    *,
    device: torch.device,
    budget_s: float,
    rounds: int = 100,
    least_rounds: int = 0,
    too_slow: float = 3.0,
    narrowing: bool = False,
    kept: Collection[str] = (),
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time functions against each other.

    Each is called twice to warm up. Then they are called by turns, in an order that is reversed every other round, until the time is up;
    what takes `too_slow` times as long as the fastest is left out after a few rounds, by the fastest call of each.

    Args:
        functions: what is timed, by name.
        device: where they work; on CUDA devices, time is measured there.
        budget_s: seconds in all; every function is timed once, whatever it takes.
        rounds: at most.
        least_rounds: that many, even if they take longer than `budget_s`.
        too_slow: times the fastest.
        narrowing: the border comes closer from `too_slow` to 1.4, with the rounds and the first quarter of the time: so the time goes
            to those that may be the fastest.
        kept: the names of those that are not left out for being slow, nor compared with when others are.
        progress: is told how far it is.
        clock: seconds; `time.process_time`, which other processes do not disturb, is of use with one thread on a busy CPU.
    """
    began = time.perf_counter()
    found = {name: Timing() for name in functions}
    for index, (name, function) in enumerate(functions.items()):
        if progress is not None:
            progress(_gone(began, budget_s), f"{name} ({index + 1} of {len(functions)})")
        try:
            for _ in range(2 if index == 0 or time.perf_counter() - began < budget_s else 1):
                found[name].seconds.append(seconds_of(function, device, clock))
        except Exception as error:  # whatever a compiler, a kernel or the memory has to say against it
            found[name] = Timing(failure=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    left = [name for name, one in found.items() if not one.failure]
    for number in range(rounds):
        if number >= least_rounds and (time.perf_counter() - began > budget_s or (len(left) < 2 and number > 2)):
            break
        limit = _limit(number, _gone(began, budget_s), too_slow, narrowing)
        left = _without_slow({name: found[name] for name in left}, limit, kept)
        for name in left if number % 2 else list(reversed(left)):
            if number == 0:
                found[name].warm_up, found[name].seconds = found[name].seconds, []
            found[name].seconds.append(seconds_of(functions[name], device, clock))
            if progress is not None:
                progress(_gone(began, budget_s), f"{name} (round {number + 1})")
    return found


def _limit(number: int, gone: float, too_slow: float, narrowing: bool) -> float:
    """How many times as long as the fastest a function may take after so many rounds and this share of the time."""
    if narrowing:
        return max(_CLOSE, 1 + (too_slow - 1) * max(0.5 ** (number + 1), 1 - 4 * gone))
    return too_slow if number >= _ROUNDS_FOR_ALL else 3 * too_slow


def _without_slow(timings: Mapping[str, Timing], too_slow: float, kept: Collection[str]) -> list[str]:
    """The names of those that are worth another round, by their fastest; the others are marked."""
    best = min((one.least for name, one in timings.items() if name not in kept), default=0.0)
    for name, one in timings.items():
        one.slow = name not in kept and one.least > too_slow * best
    return [name for name, one in timings.items() if not one.slow]


def seconds_of(function: Callable[[], object], device: torch.device, clock: Callable[[], float] = time.perf_counter) -> float:
    """The seconds that a call takes; on a CUDA device until its kernels have ended."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        function()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1e3
    began = clock()
    function()
    return clock() - began


def _gone(began: float, budget_s: float) -> float:
    return min(1.0, (time.perf_counter() - began) / budget_s) if budget_s else 1.0
