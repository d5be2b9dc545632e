from __future__ import annotations

import pytest
import torch

import packify
from tests.unit.execution.networks import image, packed_convs

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("strategy", ["streams", "cuda graph"])
@pytest.mark.parametrize("training", [False, True])
def test_the_members_outputs_are_those_of_one_pass(strategy: str, training: bool) -> None:
    packed, other = (packed_convs().cuda().double().train(training) for _ in range(2))
    packed.strategy, other.strategy = strategy, "grouped"
    for batch in (4, 2, 4):
        x = image(batch).cuda().double()
        torch.testing.assert_close(packed.members(x), other.members(x))
        with torch.no_grad():
            torch.testing.assert_close(packed.members(x), other.members(x))
    for network in (packed, other):
        network.members(image().cuda().double()).sin().sum().backward()
    for mine, theirs in zip(packed.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.gpu
@needs_cuda
def test_a_recorded_pass_sees_weights_that_change() -> None:
    packed = packed_convs().cuda().eval()
    packed.strategy = "cuda graph"
    x = image().cuda()
    with torch.no_grad():
        first = packed.members(x)
        packed.get_parameter("0.weight").mul_(2)
        second = packed.members(x)
        assert not torch.equal(first, second)
        packed.strategy = "grouped"
        torch.testing.assert_close(second, packed.members(x))


def test_without_a_gpu_it_is_refused() -> None:
    with pytest.raises(packify.SpecError, match="cuda"):
        packed_convs().strategy = "streams"
