from __future__ import annotations

import torch
from torch import nn

import packify


class Counting(nn.Module):
    """Buffers that forward writes to: the mean of what it saw, which differs between members, and the number of calls, which does not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros(6))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.first(x))
        if self.training:
            self.seen.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
            self.calls += 1
        return self.last(x - self.seen)


def test_buffers_that_members_write_to_are_their_own() -> None:
    torch.manual_seed(0)
    network = packify.batch_ensemble(Counting().train(), torch.randn(5, 4), num_estimators=3, average="mean")
    assert network.seen.shape == (18,)
    assert network.calls.shape == ()
    assert "seen" in network.own
    assert "calls" not in network.own
    x = torch.randn(5, 4)
    alone = [network.extract(member) for member in range(3)]
    outputs = network(x).chunk(3)
    for member, one in enumerate(alone):
        assert torch.allclose(one(x), outputs[member], atol=1e-6)
        assert torch.allclose(network.seen.chunk(3)[member], one.seen, atol=1e-6)
    assert int(network.calls) == 1


def test_modes_and_devices_and_dtypes_are_the_references() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(), nn.Linear(6, 3)).to(torch.bfloat16)
    model[1].eval()
    network = packify.batch_ensemble(model, torch.randn(2, 4, dtype=torch.bfloat16), average="mean")
    assert not network.get_submodule("1").training
    assert network.get_submodule("0").training
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    with torch.device("meta"):
        nothing = packify.batch_ensemble(nn.Linear(4, 3), torch.empty(2, 4), average="mean")
    assert all(parameter.is_meta for parameter in nothing.parameters())


def test_what_forward_never_reads_is_left_out_and_told() -> None:
    model = Counting()
    model.spare = nn.Linear(9, 9)
    network = packify.batch_ensemble(model, torch.randn(2, 4), average="mean")
    assert not any(name.startswith("spare") for name, _ in network.named_parameters())
    assert any(note.node == "spare" for note in network.report.notes)
