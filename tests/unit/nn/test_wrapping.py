"""What torch wraps around modules works on blocks: outputs, gradients and state dicts are those of the bare network."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing, checkpoint_wrapper
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.utils import parametrizations, parametrize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import packify
from packify.nn.ports import ports_of
from tests.unit.distributed.processes import on_processes


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.act, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.act(self.up(self.norm(x))))


class Net(nn.Module):
    """Convs, batch norm and equal blocks."""

    def __init__(self, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 2, 2), norm(8)
        self.blocks = nn.Sequential(_Block(8), _Block(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).flatten(2).transpose(1, 2)
        return self.head(self.blocks(x).mean(1))


def _packed(norm: type[nn.Module] = nn.BatchNorm2d) -> packify.PackedNetwork:
    torch.manual_seed(0)
    return packify.pack(Net(norm), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2).train()


def _step(network: Callable[..., Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """What a network returns, and the gradient of the input."""
    given = x.clone().requires_grad_()
    output = network(given)
    output.square().sum().backward()
    return output.detach(), given.grad


def _gradients(network: nn.Module) -> list[Tensor | None]:
    return [parameter.grad for parameter in network.parameters()]


def _check(wrap: Callable[[packify.PackedNetwork], Any], *, prefix: str = "") -> None:
    """A wrapped copy does in training, evaluation and in `members` what the bare network does."""
    bare = _packed()
    own = copy.deepcopy(bare)
    wrapped = wrap(own)
    if isinstance(wrapped, packify.PackedNetwork):  # a copy, or itself
        own = wrapped
    x = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(_step(wrapped, x), _step(bare, x))
    torch.testing.assert_close(_gradients(own), _gradients(bare))
    states = wrapped.state_dict(), {prefix + name: tensor for name, tensor in bare.state_dict().items()}
    assert list(states[0]) == list(states[1])
    torch.testing.assert_close(*states)
    wrapped.eval()
    bare.eval()
    torch.testing.assert_close(wrapped(x), bare(x))
    torch.testing.assert_close(own.members(x), bare.members(x))


def _copied(network: packify.PackedNetwork) -> nn.Module:
    return network  # it is a copy


def _checkpointed(network: packify.PackedNetwork) -> nn.Module:
    network.blocks[0] = checkpoint_wrapper(network.blocks[0])
    network.stem = checkpoint_wrapper(network.stem)
    return network


def _checkpointed_by_torch(network: packify.PackedNetwork) -> nn.Module:
    kind = type(network.blocks[0])
    apply_activation_checkpointing(network, check_fn=lambda module: isinstance(module, kind))
    return network


def _compiled_by_block(network: packify.PackedNetwork) -> nn.Module:
    for block in network.blocks:
        block.compile(backend="eager", fullgraph=True)
    return network


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch.compile looks at every input's
@pytest.mark.parametrize("wrap", [_copied, _checkpointed, _checkpointed_by_torch, _compiled_by_block])
def test_wrapped_parts_do_what_the_bare_network_does(wrap: Callable[[packify.PackedNetwork], Any]) -> None:
    torch.compiler.reset()
    _check(wrap)


def test_inputs_of_a_wrapped_network_are_switched() -> None:
    bare, x = _packed(), torch.randn(4, 3, 8, 8)
    wrapped = _checkpointed(copy.deepcopy(bare))
    bare.inputs = wrapped.inputs = "independent"
    torch.testing.assert_close(wrapped(x), bare(x))
    packify.verify(wrapped, dtype=torch.float32)


@pytest.mark.slow
def test_compiled_as_a_whole() -> None:
    torch.compiler.reset()
    _check(lambda network: torch.compile(network, backend="aot_eager", fullgraph=True), prefix="_orig_mod.")


def test_checkpointing_saves_what_blocks_keep() -> None:
    """Of a checkpointed block nothing but its input is kept for the backward pass."""
    kept: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    x, totals = torch.randn(4, 3, 8, 8), []
    for wrap in (lambda network: network, _checkpointed_by_torch):
        network = wrap(_packed())
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(x)
        totals.append(sum(kept))
    assert totals[1] < 0.7 * totals[0]


def test_extract_verify_and_save_see_through_wrappers(tmp_path: Path) -> None:
    packed = _packed()
    alone = packed.extract(1).state_dict()
    _checkpointed(packed)
    torch.testing.assert_close(packed.extract(1).state_dict(), alone)
    packify.verify(packed, dtype=torch.float32)
    loaded = packify.load(packify.save(packed, tmp_path / "net"), Net())
    torch.testing.assert_close(loaded.state_dict(), packed.state_dict())


def test_parametrised_layers() -> None:
    class Twice(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    packed, x = _packed().eval(), torch.randn(2, 3, 8, 8)
    wanted = copy.deepcopy(packed)
    with torch.no_grad():
        for layer in (wanted.head, wanted.stem):
            layer.weight.mul_(2)
    for layer in (packed.head, packed.stem):
        parametrize.register_parametrization(layer, "weight", Twice())
    torch.testing.assert_close(packed(x), wanted(x))
    torch.testing.assert_close(packed.extract(1)(x), wanted.extract(1)(x))
    packed(x).sum().backward()
    assert packed.head.parametrizations.weight.original.grad is not None
    assert "head.parametrizations.weight.original" in packed.state_dict()


def test_weight_norm_of_a_layer_changes_nothing() -> None:
    packed, x = _packed().eval(), torch.randn(2, 3, 8, 8)
    before = packed(x)
    parametrizations.weight_norm(packed.blocks[1].up)
    torch.testing.assert_close(packed(x), before)


def test_moving_averages() -> None:
    packed, x = _packed(), torch.randn(4, 3, 8, 8)
    average = AveragedModel(packed, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    first = copy.deepcopy(packed.state_dict())
    with torch.no_grad():
        for parameter in packed.parameters():
            parameter.add_(1)
    average.update_parameters(packed)
    average.update_parameters(packed)
    assert torch.equal(average.module.head.weight, first["head.weight"] + 1 - 0.5 * (first["head.weight"] + 1 - first["head.weight"] - 1))
    torch.testing.assert_close(average.eval()(x), average.module.eval()(x))
    assert type(average.module.blocks[0]) is type(packed.blocks[0])


def test_the_whole_module_is_pickled() -> None:
    packed, x = _packed(), torch.randn(4, 3, 8, 8)
    file = io.BytesIO()
    torch.save(packed, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    torch.testing.assert_close(_step(loaded, x), _step(packed, x))
    torch.testing.assert_close(_gradients(loaded), _gradients(packed))
    assert list(loaded.state_dict()) == list(packed.state_dict())
    assert type(loaded.blocks[0]) is type(packed.blocks[0])
    packify.verify(loaded, dtype=torch.float32)


def test_a_block_alone_is_a_module() -> None:
    block = _packed().blocks[0]
    x = torch.randn(ports_of(block)[0].inputs[0].packed_shape(2))
    own = copy.deepcopy(block)
    torch.testing.assert_close(own(x), block(x))
    file = io.BytesIO()
    torch.save(block, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(x), block(x))


def _sharded(rank: int, folder: Path) -> None:
    """Two processes: sharded and replicated networks take the step that the bare one takes on the whole batch."""
    torch.manual_seed(1)
    x = torch.randn(4, 3, 8, 8)
    bare, sharded, replicated = (_packed().eval() for _ in range(3))
    half = _packed(nn.Identity).eval()  # torch's batch norm takes no bfloat16 weights beside float32 statistics on a CPU
    in_half = half(x)
    wanted = bare(x)
    wanted.square().sum().backward()
    for network, policy in ((sharded, MixedPrecisionPolicy()), (half, MixedPrecisionPolicy(torch.bfloat16, torch.float32))):
        for block in network.blocks:
            fully_shard(block, mp_policy=policy)
        fully_shard(network, mp_policy=policy)
    outputs = sharded(x)
    torch.testing.assert_close(outputs, wanted)
    outputs.square().sum().backward()
    for (name, one), two in zip(sharded.named_parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(one.grad.full_tensor(), two.grad, msg=name)
    assert list(sharded.state_dict()) == list(bare.state_dict())
    torch.testing.assert_close(sharded.extract(1).state_dict(), bare.extract(1).state_dict())
    torch.testing.assert_close(half(x).float(), in_half, atol=0.05, rtol=0.05)
    wrapped = nn.parallel.DistributedDataParallel(replicated)
    torch.testing.assert_close(wrapped(x[2 * rank : 2 * rank + 2]), wanted[2 * rank : 2 * rank + 2])
    wrapped(x[2 * rank : 2 * rank + 2]).square().sum().backward()
    for one, two in zip(replicated.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(2 * one.grad, two.grad)


@pytest.mark.slow
def test_sharded_and_replicated_on_two_processes(tmp_path: Path) -> None:
    on_processes(_sharded, tmp_path, 2)
