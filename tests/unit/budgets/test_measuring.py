import pytest
import torch
import torch.nn.functional as F
import torchinfo
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from packify.budgets.measuring import kept_for_backward, measure, network
from packify.budgets.torchinfo import torchinfo_mult_adds
from packify.capture.graphs import record_graphs

FLOAT = 4


def recorded(model, *inputs, mode="eval"):
    recorded = record_graphs(model, inputs)
    return network(recorded.root, recorded.graphs[mode], recorded.constants, batched=recorded.batch is not None)


def mult_adds(model, *inputs):
    return sum(step.mult_adds for step in measure(recorded(model, *inputs)).steps)


class Function(nn.Module):
    """A module whose forward is the function given, with one linear layer to use."""

    def __init__(self, function):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.function = function

    def forward(self, *inputs):
        return self.function(self, *inputs)


def test_counts_are_of_one_sample_whatever_the_example_holds():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    assert {mult_adds(model, torch.randn(batch, 3, 8, 8)) for batch in (1, 2, 3)} == {4 * 36 * 27 + 4 * 36 * 5}


def test_a_weight_computed_on_the_fly_counts_once():
    model = Function(lambda self, x: F.linear(x, self.linear.weight @ self.linear.weight))
    assert mult_adds(model, torch.randn(2, 8)) == 8 * 8 * 8 + 8 * 8


def test_a_batch_size_written_into_the_code_is_divided_out():
    model = Function(
        lambda self, x: self.linear(x.reshape(6, 8)) + self.linear.weight.sum() * (self.linear.weight @ self.linear.weight).sum()
    )
    assert mult_adds(model, torch.randn(6, 2, 4)) == 8 * 8 + 8 * 8 * 8


def test_inputs_without_a_common_batch_are_one_sample():
    model = Function(lambda self, x, y: self.linear(x) @ self.linear(y).T)
    assert mult_adds(model, torch.randn(3, 8), torch.randn(5, 8)) == 8 * 8 * 8 + 3 * 5 * 8


def test_peak_memory_of_a_chain_is_the_widest_neighbours_and_the_input():
    model = nn.Sequential(nn.Linear(10, 100), nn.Linear(100, 50), nn.Linear(50, 2))
    run = measure(recorded(model, torch.randn(4, 10)))
    assert run.input_bytes == 10 * FLOAT
    assert run.peak_bytes == (10 + 100 + 50) * FLOAT


def test_views_and_in_place_work_cost_no_memory():
    plain = measure(recorded(nn.Sequential(nn.Linear(16, 16)), torch.randn(2, 16)))
    same = nn.Sequential(nn.Linear(16, 16), nn.ReLU(inplace=True), nn.Unflatten(1, (4, 4)), nn.Flatten())
    assert measure(recorded(same, torch.randn(2, 16))).peak_bytes == plain.peak_bytes


def test_a_residual_stays_alive_until_it_is_added():
    model = Function(lambda self, x: self.linear(torch.relu(self.linear(x + 1))) + x)
    # x, x + 1, linear; then x, relu, linear: never more than three
    assert measure(recorded(model, torch.randn(2, 8))).peak_bytes == 3 * 8 * FLOAT


def test_bytes_of_another_dtype():
    model = nn.Sequential(nn.Linear(10, 100), nn.Linear(100, 50))
    full, half = (measure(recorded(model, torch.randn(4, 10)), dtype) for dtype in (None, torch.bfloat16))
    assert half.peak_bytes * 2 == full.peak_bytes


def test_what_backward_keeps_is_what_autograd_saves():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5), nn.GELU())
    x = torch.randn(2, 3, 8, 8)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        model(x)
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    expected = sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in weights)
    assert kept_for_backward(recorded(model, x, mode="train")) == expected // 2


def test_batch_norm_over_single_positions_can_be_measured():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    assert kept_for_backward(recorded(model, torch.randn(2, 4), mode="train")) > 0


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0][:, -1])


class Twice(nn.Module):
    """One linear layer called twice in a row, and attention whose projections torchinfo does not see."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        x = self.linear(self.linear(x))
        return self.attention(x, x, x)[0]


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), nn.ConvTranspose2d(8, 4, 2)), torch.zeros(1, 3, 8, 8)),
        (nn.Sequential(nn.Conv1d(3, 8, 3, groups=1), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(48, 2)), torch.zeros(1, 3, 8)),
        (Recurrent(), torch.zeros(1, 7, dtype=torch.long)),
        (Twice(), torch.zeros(1, 5, 8)),
    ],
    ids=["conv", "conv1d", "lstm", "attention"],
)
def test_the_torchinfo_convention_is_torchinfos(model, example):
    model = model.eval()
    expected = torchinfo.summary(model, input_data=example, verbose=0).total_mult_adds
    recording = recorded(model, example)
    assert expected > 0
    assert sum(torchinfo_mult_adds(recording.root, measure(recording).steps).values()) == expected
