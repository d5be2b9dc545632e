"""RNN, LSTM and GRU modules: one hidden width for all their layers, directions and gates."""

from __future__ import annotations

from typing import Any

from packify.packing.ride import Rider
from packify.widths.dims import Dim, fixed, free, product
from packify.widths.walk import Axes, Walk


def recurrent(walk: Walk, x: Axes, state: Any = None) -> Any:
    module: Any = walk.root.get_submodule(str(walk.node.target))
    gates = {"LSTM": 4, "GRU": 3}.get(type(module).__name__, 1)
    directions = 2 if module.bidirectional else 1
    hidden = free(module.hidden_size)
    walk.layer(hidden)
    output = hidden
    if module.proj_size:
        output = free(module.proj_size)
        walk.layer(output)
    merged = product([fixed(directions), output]) if directions > 1 else output
    for layer in range(module.num_layers):
        for suffix in [f"_l{layer}", f"_l{layer}_reverse"][:directions]:
            _equate(walk, f"weight_ih{suffix}", product([fixed(gates), hidden]), x.dims[-1] if layer == 0 else merged)
            _equate(walk, f"weight_hh{suffix}", product([fixed(gates), hidden]), output)
            _equate(walk, f"weight_hr{suffix}", output, hidden)
            _equate(walk, f"bias_ih{suffix}", product([fixed(gates), hidden]))
            _equate(walk, f"bias_hh{suffix}", product([fixed(gates), hidden]))
    for axes, width in zip(state if isinstance(state, tuple) else (state,), (output, hidden), strict=False):
        if isinstance(axes, Axes):
            walk.equate(axes.dims[-1], width)
    batch = [] if len(x.dims) == 2 else [x.dims[0 if module.batch_first else 1]]
    first = [fixed(module.num_layers * directions), *batch, output]
    final: Any = (first, [*first[:-1], hidden]) if gates == 4 else first
    return [*x.dims[:-1], merged], final


def _equate(walk: Walk, name: str, *dims: Dim) -> None:
    own = walk.parameter(name)
    if own is not None:
        for left, right in zip(own.dims, dims, strict=True):
            walk.equate(left, right)


# -- how members ride ----------------------------------------------------------------------------------------------------


def ride(rider: Rider, node: Any, *args: Any, **kwargs: Any) -> Any:
    """One kernel runs one member: the module runs once per member on views of its weights."""
    return rider.fallback(node, args, kwargs, "its kernel takes the weights of one network")
