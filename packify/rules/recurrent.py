"""RNN, LSTM and GRU, as modules and as single cells: one hidden width for all their layers, directions and gates."""

from __future__ import annotations

from typing import Any

import torch

from packify.layers.functional import packed_linear
from packify.packing.ride import Rider, rides_in
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


def cell(
    walk: Walk, x: Axes, state: Any, weight_ih: Axes, weight_hh: Axes, bias_ih: Axes | None = None, bias_hh: Axes | None = None
) -> Any:
    """One step of a recurrence, as nn.GRUCell and its kin call it."""
    states = state if isinstance(state, (tuple, list)) else (state,)
    hidden = free(weight_hh.shape[1])
    walk.layer(hidden)
    merged = product([fixed(_GATES[walk.node.meta["op"]]), hidden])
    walk.equate(weight_ih.dims[1], x.dims[-1])
    walk.equate(weight_hh.dims[1], hidden)
    for own in (weight_ih, weight_hh, bias_ih, bias_hh):
        if own is not None:
            walk.equate(own.dims[0], merged)
    for axes in states:
        walk.equate(axes.dims[-1], hidden)
    dims = [*x.dims[:-1], hidden]
    return dims if len(states) == 1 else (dims, dims)


_GATES = {"gru_cell": 3, "lstm_cell": 4, "rnn_tanh_cell": 1, "rnn_relu_cell": 1}


# -- how members ride ----------------------------------------------------------------------------------------------------


def ride(rider: Rider, node: Any, *args: Any, **kwargs: Any) -> Any:
    """One kernel runs one member: the module runs once per member on views of its weights."""
    return rider.fallback(node, args, kwargs, "its kernel takes the weights of one network")


def ride_cell(rider: Rider, node: Any, x: Any, state: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None) -> Any:
    """Two linear layers and the gates, with the members in front."""
    op = node.meta["op"]
    states = list(state) if isinstance(state, (tuple, list)) else [state]
    weights = rides_in((weight_ih, weight_hh, bias_ih, bias_hh))
    if not all(ride.packed and ride.ndim for ride in weights) or x.ndim != 2:
        return rider.fallback(node, (x, state, weight_ih, weight_hh, bias_ih, bias_hh), {})
    own = [ride if ride is None else rider.to(ride, 0) for ride in (weight_ih, weight_hh, bias_ih, bias_hh)]
    fronts = [rider.front(rider.to(ride, 0)) for ride in (x, *states)]
    from_input = rider.emit(packed_linear, fronts[0], own[0], own[2], rider.members, 1)
    from_state = rider.emit(packed_linear, fronts[1], own[1], own[3], rider.members, 1)
    return rider.back(rider.emit(_STEPS[op], from_input, from_state, fronts[-1]), node.meta["val"])


def gru_step(from_input: torch.Tensor, from_state: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """GRU gates, ``"... (3 h), ... (3 h), ... h -> ... h"``."""
    (r, z, n), (reset, update, new) = from_input.chunk(3, -1), from_state.chunk(3, -1)
    keep = torch.sigmoid(z + update)
    candidate = torch.tanh(n + torch.sigmoid(r + reset) * new)
    return candidate + keep * (hidden - candidate)


def lstm_step(from_input: torch.Tensor, from_state: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """LSTM gates, ``"... (4 h), ... (4 h), ... h -> ... h, ... h"``."""
    enter, forget, value, leave = (from_input + from_state).chunk(4, -1)
    memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(value)
    return torch.sigmoid(leave) * torch.tanh(memory), memory


def tanh_step(from_input: torch.Tensor, from_state: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """An Elman step."""
    return torch.tanh(from_input + from_state)


def relu_step(from_input: torch.Tensor, from_state: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """An Elman step."""
    return torch.relu(from_input + from_state)


_STEPS = {"gru_cell": gru_step, "lstm_cell": lstm_step, "rnn_tanh_cell": tanh_step, "rnn_relu_cell": relu_step}
