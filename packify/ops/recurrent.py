"""RNN, LSTM and GRU modules: one hidden width for all their layers, directions and gates."""

from __future__ import annotations

from typing import Any

from packify.packing.builder import PackBuilder
from packify.widths.dims import Dim, fixed, free, product
from packify.widths.propagation import Axes, WidthPropagation


def recurrent_widths(widths: WidthPropagation, input: Axes, hx: Any) -> Any:
    module: Any = widths.root.get_submodule(str(widths.node.target))
    gates = {"LSTM": 4, "GRU": 3}.get(type(module).__name__, 1)
    directions = 2 if module.bidirectional else 1
    hidden = free(module.hidden_size)
    widths.layer(hidden)
    output = hidden
    if module.proj_size:
        output = free(module.proj_size)
        widths.layer(output)
    merged = product([fixed(directions), output]) if directions > 1 else output
    for layer in range(module.num_layers):
        for suffix in [f"_l{layer}", f"_l{layer}_reverse"][:directions]:
            _equate(widths, f"weight_ih{suffix}", product([fixed(gates), hidden]), input.dims[-1] if layer == 0 else merged)
            _equate(widths, f"weight_hh{suffix}", product([fixed(gates), hidden]), output)
            _equate(widths, f"weight_hr{suffix}", output, hidden)
            _equate(widths, f"bias_ih{suffix}", product([fixed(gates), hidden]))
            _equate(widths, f"bias_hh{suffix}", product([fixed(gates), hidden]))
    for axes, width in zip(hx if isinstance(hx, tuple) else (hx,), (output, hidden), strict=False):
        if isinstance(axes, Axes):
            widths.equate(axes.dims[-1], width)
    batch = [] if len(input.dims) == 2 else [input.dims[0 if module.batch_first else 1]]
    first = [fixed(module.num_layers * directions), *batch, output]
    final: Any = (first, [*first[:-1], hidden]) if gates == 4 else first
    return [*input.dims[:-1], merged], final


def _equate(widths: WidthPropagation, name: str, *dims: Dim) -> None:
    own = widths.parameter(name)
    if own is not None:
        for left, right in zip(own.dims, dims, strict=True):
            widths.equate(left, right)


# -- how members are packed --------------------------------------------------------------------------------------------


def pack(builder: PackBuilder, node: Any, **_: Any) -> Any:
    """One kernel runs one member: the module runs once per member on views of its weights."""
    return builder.fallback(node, why="its kernel takes the weights of one network")
