from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.execution.choices import Choice, key_of
from packify.execution.running import Execution
from tests.unit.execution.networks import image, packed_convs


def test_a_copy_and_a_pickle_keep_the_strategy() -> None:
    packed = packed_convs().eval()
    packed.strategy = "in turn"
    expected = packed(image())
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed)), packify.part(packed, range(4))):
        assert other.strategy == "in turn"
        torch.testing.assert_close(other(image()), expected)
        other.strategy = "grouped"
    assert packed.strategy == "in turn"


def test_a_copy_runs_on_its_own_tensors() -> None:
    packed = packed_convs().eval()
    packed.strategy = "in turn"
    packed(image())
    other = copy.deepcopy(packed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        assert not other.members(image()).any()
        assert packed.members(image()).any()


def test_the_state_and_the_digest_do_not_tell_the_strategy() -> None:
    packed = packed_convs()
    names, digest = list(packed.state_dict()), packed.digest
    packed.strategy = "in turn"
    packed(image())
    assert (list(packed.state_dict()), packed.digest) == (names, digest)


def test_one_member_is_the_network_itself() -> None:
    packed = packed_convs(alpha=1, num_estimators=1)
    packed.strategy = "in turn"
    assert packed.executor is not None
    assert packed.members(image()).shape == (1, 4, 5)


def test_a_strategy_that_was_looked_up_is_looked_up_again_where_anything_it_is_told_from_differs() -> None:
    packed = packed_convs().eval()
    executor, x = packed.executor, image()
    assert isinstance(executor, Execution)

    def choice(**other: Any) -> Choice:
        device, dtype, threads, mode = key_of(x.device, [x], train=False)
        told = {"device": device, "dtype": dtype, "threads": threads, "mode": mode, "batch": 2, "batch_low": 1, "batch_high": 4}
        return Choice(**{**told, "memory_format": "contiguous", **other})

    with torch.no_grad():
        before = executor.suited(packed, [x])
        assert executor.suited(packed, [x]) == before
        executor.choices = (choice(strategy="batched"), choice(strategy="per layer", dtype="bfloat16"))
        assert executor.suited(packed, [x])[0] == "batched"
        assert executor.suited(packed, [x[:1].expand(8, -1, -1, -1)]) == before
        with torch.autocast("cpu", torch.bfloat16):
            assert executor.suited(packed, [x])[0] == "per layer"
        packed.train()
        assert executor.suited(packed, [x])[0] == before[0]
        executor.choices = ()
        assert executor.suited(packed.eval(), [x]) == before
        for batch in range(1, 600):
            executor.suited(packed, [x[:1].expand(batch, -1, -1, -1)])
        assert len(executor._suited.found) < 300


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["grouped", "in turn", "batched", "per layer"])
def test_compiled_and_exported_it_gives_the_same(strategy: str) -> None:
    packed = packed_convs().eval()
    packed.strategy = strategy
    with torch.no_grad():
        expected = packed(image())
        compiled = torch.compile(packed, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(image()), expected)
        exported = torch.export.export(packed, (image(),))
        torch.testing.assert_close(exported.module()(image()), expected)


def test_a_part_of_the_reference_may_be_called_strategy() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.strategy = nn.Linear(4, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.strategy(x))

    packed = packify.pack(Named(), torch.randn(2, 4), alpha=2, num_estimators=2).eval()
    expected = packed(torch.ones(1, 4))
    packed.strategy = "in turn"
    torch.testing.assert_close(packed(torch.ones(1, 4)), expected)
    assert "strategy.weight" in packed.state_dict()
