"""The schemes of initial weights in a few lines: one per kind of layer, and the odd ones by name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from torch import nn

from packify.core.report import KindScheme
from packify.nn.statistics import kind_of


def schemes_by_kind(reference: nn.Module, labels: Mapping[str, str]) -> list[KindScheme]:
    """Kinds of parameters, the most numerous first, each with the scheme of most of them."""
    modules = dict(reference.named_modules(remove_duplicate=False))
    tensors = dict(reference.named_parameters(remove_duplicate=False))
    kinds: dict[str, dict[str, str]] = defaultdict(dict)
    for name, label in labels.items():
        kinds[kind_of(name, tensors[name], modules[name.rpartition(".")[0]])][name] = label
    found = []
    for kind, own in kinds.items():
        common = Counter(own.values()).most_common(1)[0][0]
        found.append(KindScheme(kind, common, len(own), {name: label for name, label in own.items() if label != common}))
    return sorted(found, key=lambda one: (-one.count, one.kind))
