"""RNN, LSTM and GRU: one hidden width for layers, directions and gates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import packify

KINDS = {
    "rnn": lambda: nn.RNN(6, 8),
    "lstm of two layers, both ways": lambda: nn.LSTM(6, 8, 2, bidirectional=True),
    "gru without biases": lambda: nn.GRU(6, 8, bias=False, batch_first=True),
    "lstm, projected": lambda: nn.LSTM(6, 8, proj_size=4),
    "lstm, projected, both ways": lambda: nn.LSTM(6, 8, 2, proj_size=4, bidirectional=True),
}


class Net(nn.Module):
    """A recurrent layer between two layers, and both of what it gives."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.stem, self.rnn = nn.Linear(3, 6), KINDS[name]()
        output = (self.rnn.proj_size or 8) * (2 if self.rnn.bidirectional else 1)
        self.head = nn.Linear(output, 2)
        self.of_state = nn.Linear(self.rnn.proj_size or 8, 2)

    def forward(self, x: torch.Tensor) -> Any:
        out, state = self.rnn(self.stem(x))
        state = state[0] if isinstance(state, tuple) else state
        return self.head(out), self.of_state(state[-1])


@pytest.mark.parametrize("name", KINDS)
def test_a_member_is_a_layer_of_half_the_width(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 5, 3)
    packed = packify.pack(Net(name), x, alpha=1, num_estimators=2)
    (widths,) = {tuple(tensor.shape) for key, tensor in packed.extract(0).named_parameters() if key == "rnn.weight_ih_l0"}
    gates = {"rnn": 1, "gru": 3}.get(name.split(maxsplit=1)[0], 4)
    assert widths == (gates * 4, 3)
    names = {key for key, _ in Net(name).named_parameters()}
    halved = {key: tensor.shape for key, tensor in packed.extract(0).named_parameters()}
    assert halved.keys() == names
    assert packify.verify(packed, x).equality < 1e-9


def test_a_state_that_is_given_has_the_width_of_the_layer() -> None:
    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.first, self.cell = nn.Linear(3, 6), nn.Linear(3, 8), nn.Linear(3, 8)
            self.rnn, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = (self.first(x[:, 0])[None], self.cell(x[:, 0])[None])
            return self.head(self.rnn(self.stem(x), state)[0])

    x = torch.randn(4, 5, 3)
    packed = packify.pack(Given(), x, alpha=1, num_estimators=2)
    shapes = {key: tuple(tensor.shape) for key, tensor in packed.extract(0).named_parameters()}
    assert shapes["first.weight"] == shapes["cell.weight"] == (4, 3)
    assert not packed.report.pins or all("rnn" not in note.node for note in packed.report.pins)
