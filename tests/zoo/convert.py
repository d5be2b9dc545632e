"""Convert one architecture on the meta device: record once, slim per width and gamma, build the packed graph per configuration."""

from __future__ import annotations

import gc
import re
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from packify.capture.graphs import record_graphs
from packify.core.errors import PackifyError
from packify.core.report import Note
from packify.core.spec import Spec
from packify.ensembles.assembly import assemble
from packify.ops.table import RULES
from packify.widths.slimming import Member, Slimmer
from tests.zoo.architectures import Architecture, build
from tests.zoo.ideal import ideal_params
from tests.zoo.outcome import Outcome

SPECS = (Spec(2, 4, 1), Spec(2, 4, 2), Spec(1.5, 3, 1))


@dataclass(frozen=True)
class Seconds:
    """What the steps took; `slim` is the slowest of the configurations, `pack` their sum."""

    build: float = 0.0
    record_graphs: float = 0.0
    slim: float = 0.0
    pack: float = 0.0

    @property
    def convert(self) -> float:
        """Recording and slimming: what a budget needs."""
        return self.record_graphs + self.slim


def convert(one: Architecture, built_at: Sequence[Spec] = SPECS) -> tuple[Outcome, Seconds]:
    """The outcome of one architecture, slimmed at `SPECS` and built at `built_at`. Never raises: an error is an outcome."""
    row = Outcome(one.library, one.family, one.name, one.part)
    gc.collect()
    gc.disable()  # graphs are many small objects that live as long as the conversion: looking through them again and again costs a quarter
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a network's own code warns of is no outcome
            return _converted(one, row, built_at)
    except Exception as error:
        return replace(row, outcome=type(error).__name__, reason=one_line(error)), Seconds()
    finally:
        gc.enable()


def _converted(one: Architecture, row: Outcome, built_at: Sequence[Spec]) -> tuple[Outcome, Seconds]:
    start = time.perf_counter()
    built = build(one)
    built_after = time.perf_counter()
    recorded = record_graphs(built.model, built.example_inputs)
    traced_after = time.perf_counter()
    slimmer = Slimmer(recorded, RULES)
    members: dict[tuple[object, int], Member] = {}
    slowest = packing = 0.0
    fallbacks: Counter[str] = Counter()
    for spec in SPECS:
        before = time.perf_counter()
        key = (spec.ratio, spec.gamma)
        if key not in members:
            members[key] = slimmer.member(spec)
            slowest = max(slowest, time.perf_counter() - before)
        if spec not in built_at:
            continue
        member = replace(members[key], spec=spec)
        before = time.perf_counter()
        packed = assemble(member, built.example_inputs, built.model, inputs="shared", average=None, rules=RULES)
        packing += time.perf_counter() - before
        if packed.report.packed_params != spec.num_estimators * member.params:
            raise ArithmeticError(f"{packed.report.packed_params} packed parameters, {spec.num_estimators} times {member.params} predicted")
        for what, count in _tally(packed.report.fallbacks, lambda note: f"{note.what}: {note.why}").items():
            fallbacks[what] = max(fallbacks[what], count)
    params = sum(parameter.numel() for parameter in recorded.root.parameters())
    plain, divided = members[(SPECS[0].ratio, 1)], members[(SPECS[0].ratio, 2)]
    pins = _tally(plain.pins, lambda note: note.why)
    row = replace(
        row,
        nodes=len(recorded.graphs["eval"].nodes),
        params=params,
        half=round(plain.params / params, 4),
        ideal=round(ideal_params(recorded, float(SPECS[0].ratio)) / params, 4),
        half_gamma=round(divided.params / params, 4),
        pinned=sum(pins.values()),
        pins=_told(pins),
        rounded=len(plain.rounded),
        fallbacks=_told(fallbacks),
    )
    if row.heavy:
        row = replace(row, pins="; ".join(map(str, plain.pins)))
    return row, Seconds(built_after - start, traced_after - built_after, slowest, packing)


def _tally(notes: Sequence[Note], words: object) -> Counter[str]:
    return Counter(_general(words(note)) for note in notes)  # type: ignore[operator]


def _general(text: str) -> str:
    """A reason without the sizes and the node it was met at, so that equal reasons are counted together."""
    text = re.sub(r" at [\w.]+$", "", text.partition("\n")[0])
    text = re.sub(r"shape \(.*?\)", "a shape", text)
    return re.sub(r"\b\d+\b", "N", text).replace("\t", " ")


def _told(reasons: Counter[str]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def one_line(error: Exception) -> str:
    """What an error says, as one line without paths of this machine."""
    if isinstance(error, PackifyError):
        where, _, rest = str(error).partition("\n")
        found = re.search(r"found: (.*)", rest)
        text = f"{where}: {found[1] if found else rest.strip()}"
    else:
        text = str(error).strip().partition("\n")[0]
    text = re.sub(r"\S*/site-packages/", "", text)
    return " ".join(text.split())[:300]
