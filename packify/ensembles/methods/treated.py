"""The layers of a recording that a method treats: those that patterns choose and that it knows, and why the others stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import fx

from packify.core.errors import SpecError
from packify.core.report import Note
from packify.ensembles.methods.layers import MethodLayer, chosen, foldable, layers_of
from packify.ensembles.methods.member import Source


@dataclass(frozen=True)
class Treated:
    """The layers that a method treats, in all graphs of a recording.

    Attributes:
        every: all layers there are; those of one module have one key.
        matching: those that the patterns choose.
        layers: those that are treated.
        foldable: the keys of the treated ones into whose weight something can be multiplied, or cut.
        left_out: the layers that stay as they are, each once, and why.
    """

    every: list[MethodLayer]
    matching: list[MethodLayer]
    layers: list[MethodLayer]
    foldable: set[str]
    left_out: list[Note]

    def of(self, graph: fx.Graph) -> list[MethodLayer]:
        """The treated layers of one graph, in order."""
        return [layer for layer in self.layers if layer.node.graph is graph]

    def require_some(self, what: str, why: str) -> None:
        """Refuse a network in which no layer is treated.

        Args:
            what: layers get, for the error.
            why: members need it.

        Raises:
            SpecError: there is none.
        """
        if self.layers:
            return
        raise SpecError(
            "layers",
            found=f"{len({layer.key for layer in self.every})} layers, none of which gets {what}",
            why=why + "".join(f"; {note}" for note in self.left_out[:1]),
            fix="leave layers out, or pass a network with such layers",
        )


def treated_layers(source: Source, patterns: Sequence[str], what: str, against: Callable[[MethodLayer], str]) -> Treated:
    """The layers of a recording that a method treats.

    Args:
        source: holds the recording.
        patterns: the user's, of names of layers.
        what: layers get, for the error.
        against: why a layer cannot be treated, for the report; empty if it can.

    Raises:
        SpecError: a pattern matches no layer.
    """
    root = source.graphs.root
    graphs = {id(graph): graph for graph in source.graphs.graphs.values()}
    every = [layer for graph in graphs.values() for layer in layers_of(graph, root, source.table)]
    keys, left_out = chosen(every, patterns, f"members get {what} in the layers that match")
    why = {layer.key: reason for layer in every if (reason := against(layer))}
    matching = [layer for layer in every if layer.key in keys]
    layers = [layer for layer in matching if layer.key not in why]
    notes: dict[str, Note] = {}
    for layer in every:
        reason = why.get(layer.key) or ("the patterns leave it out" if layer.key in left_out else "")
        if reason:
            notes.setdefault(layer.key, Note(layer.name, layer.node.meta["source"], "stays as it is", reason))
    return Treated(every, matching, layers, foldable(every, root, {layer.key for layer in layers}), list(notes.values()))
