from __future__ import annotations

import pytest
import torch
from torch import nn

from packify.core.errors import ExportError
from packify.exporting.deployment import Deployment
from packify.exporting.programs import foreign_operators, program_of, tidy
from tests.unit.exporting.networks import Attention, conv_net, packed_of

X = torch.randn(2, 3, 8, 8)


@pytest.mark.slow
@pytest.mark.parametrize("make", [conv_net, Attention])
def test_any_batch_and_aten_alone_tidied_or_not(make: type[nn.Module]) -> None:
    deployment = Deployment(packed_of(make()), X, ("mean", "members", "uncertainty")).eval()
    program = program_of(deployment, [X], dynamic=True)
    assert foreign_operators(program) == []
    assert [node.name for node in program.graph.nodes if node.op == "placeholder"][-1] == "input0"
    for again in (False, True):
        if again:
            before = len(program.graph.nodes)
            went = tidy(program)
            assert len(program.graph.nodes) == before - went
            assert went > 0
        run = program.module()
        for batch in (1, 2, 7):
            x = torch.randn(batch, 3, 8, 8)
            for name, value in deployment(x).items():
                torch.testing.assert_close(run(x)[name], value, atol=1e-6, rtol=1e-5)


def test_what_writes_through_a_view_is_not_tidied() -> None:
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.clone()
            y.view(2, -1).mul_(2)
            return y.flatten(1)

    deployment = Deployment(Writes(), torch.randn(2, 4, 2), ["mean"], average="mean").eval()
    x = torch.randn(2, 4, 2)
    program = program_of(deployment, [x], dynamic=False)
    assert tidy(program) == 0
    torch.testing.assert_close(program.module()(x)["mean"], 2 * x.flatten(1))


def test_a_batch_that_the_code_fixes() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(2, -1) if x.shape[0] == 2 else x.flatten(1)

    with pytest.raises(ExportError, match="--batch 1"):
        program_of(Deployment(Fixed(), X, ["mean"], average="mean"), [X], dynamic=True)
