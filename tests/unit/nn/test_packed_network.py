"""The packed network as an nn.Module that people copy, cast, move, compile, train and resume."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import packify
from packify.nn.averaging import averaged, class_axis, could_be_logits
from packify.ops.table import RULES
from tests.laws import checks
from tests.models import images, interfaces, sequences
from tests.models.catalogue import CASES

_SOME = ["lenet", "mlp", "unet", "norms", "vit", "window", "lstm", "encoder", "text", "tables", "reused", "weight norm", "dict output"]


def _packed(name: str, **spec: Any) -> tuple[packify.PackedNetwork, Any]:
    torch.manual_seed(0)
    case = CASES[name]
    inputs = case.inputs()
    return packify.pack(case.build(), inputs, **{"alpha": 2, "num_estimators": 4, **spec}), inputs


def _first(network: nn.Module, inputs: Any) -> torch.Tensor:
    return checks.leaves(checks.call(network, inputs))[0]


# -- averages ------------------------------------------------------------------------------------------------------------


def test_probabilities_are_averaged_as_log_probabilities() -> None:
    logits = torch.randn(3, 5, 4)
    out = averaged(logits, "probs")
    mean = logits.softmax(-1).mean(0)
    checks.close(out.exp(), mean, "exp", 1e-5)
    checks.close(out.softmax(-1), mean, "softmax", 1e-5)
    target = torch.tensor([0, 1, 2, 3, 0])
    assert math.isclose(float(F.cross_entropy(out, target)), float(F.nll_loss(mean.log(), target)), rel_tol=1e-5)


def test_probabilities_of_dense_maps_are_over_axis_one() -> None:
    logits = torch.randn(3, 2, 5, 4, 6)
    checks.close(averaged(logits, "probs").exp(), logits.softmax(2).mean(0), "classes", 1e-5)
    assert class_axis(2) == 1
    assert class_axis(4) == 1


def test_other_averages() -> None:
    values = torch.randn(3, 5)
    checks.close(averaged(values, "mean"), values.mean(0), "mean")
    assert averaged(values, "none") is values
    assert averaged(None, "mean") is None
    assert averaged(torch.tensor([[1, 2], [3, 5], [3, 2]]), "vote").tolist() == [3, 2]
    assert averaged(torch.tensor([[True, False], [False, False], [True, True]]), "vote").tolist() == [True, False]
    assert torch.equal(averaged(torch.tensor([[1j], [3.0]]), "mean"), torch.tensor([1.5 + 0.5j]))


@pytest.mark.parametrize(
    ("shape", "op", "could_be"),
    [
        ((3, 10), "linear", True),
        ((3, 1), "linear", False),
        ((3,), "squeeze", False),
        ((3, 10), "softmax", False),
        ((3, 10), "relu", False),
        ((3, 10), "softplus", False),
        ((3, 4, 8, 8), "conv2d", True),
        ((3, 1, 8, 8), "conv2d", False),
    ],
)
def test_what_could_be_logits(shape: tuple[int, ...], op: str, could_be: bool) -> None:
    assert could_be_logits(torch.empty(shape), RULES[op].traits) == could_be


def test_a_mean_of_sigmoids_is_finite_for_extreme_logits() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, -1e4, 2.0]])
    assert bool(averaged(logits, "sigmoid").isfinite().all())
    torch.testing.assert_close(averaged(logits, "sigmoid")[2].sigmoid(), logits[:, 2].sigmoid().mean())


class Decided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.two(self.one(x).relu())
        return {"logits": y, "class": y.argmax(-1), "sign": y > 0, "wave": torch.complex(y, -y)}


@pytest.mark.parametrize("average", [None, "mean"])
def test_whole_numbers_are_voted_on_and_complex_ones_averaged(average: str | None) -> None:
    x = torch.randn(3, 5)
    packed = packify.pack(Decided(), x, alpha=2, num_estimators=3, average=average).eval()
    assert packed.average == {"logits": average or "mean", "class": "vote", "sign": "vote", "wave": "mean"}
    with torch.no_grad():
        out, members = packed(x), packed.members(x)
    assert out["class"].dtype == torch.int64
    assert torch.equal(out["sign"], members["sign"].sum(0) > 1)
    checks.close(torch.view_as_real(out["wave"]), torch.view_as_real(members["wave"]).mean(0), "wave", 1e-5)
    assert packify.verify(packed).independence == 0
    assert packify.pack(Decided(), x, alpha=2, num_estimators=3, average="none").average == "none"


def test_regression_is_averaged_by_the_mean() -> None:
    packed, x = _packed("regression")
    assert packed.average == "mean"
    packed.eval()
    with torch.no_grad():
        checks.close(packed(x), packed.members(x).mean(0), "mean", 1e-5)


# -- calling -------------------------------------------------------------------------------------------------------------


def test_train_mode_is_member_major() -> None:
    packed, x = _packed("unet without norm")
    packed.train()
    with torch.no_grad():
        checks.close(packed(x), packed.members(x).flatten(0, 1), "forward", 1e-5)
    assert packed(x).shape == (12, 3, 8, 8)
    assert packed.eval()(x).shape == (3, 3, 8, 8)


def test_a_loss_against_repeated_targets_trains() -> None:
    packed, x = _packed("mlp")
    target = torch.randint(0, 3, (3,))
    optimiser = torch.optim.SGD(packed.train().parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = F.cross_entropy(packed(x), target.repeat(4))
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", [*CASES])
def test_other_batch_sizes(name: str) -> None:
    packed, inputs = _packed(name, num_estimators=2)
    packed.eval()

    def resized(value: Any, batch: int) -> Any:
        if isinstance(value, torch.Tensor):
            return value[:1].repeat(batch, *[1] * (value.dim() - 1))
        if isinstance(value, tuple):
            return tuple(resized(item, batch) for item in value)
        return {key: resized(item, batch) for key, item in value.items()} if isinstance(value, dict) else value

    with torch.no_grad():
        one = checks.leaves(checks.call(packed.members, resized(inputs, 1)))
        for batch in (2, 5, 7):
            for alone, many in zip(one, checks.leaves(checks.call(packed.members, resized(inputs, batch))), strict=True):
                axis = next(axis for axis, size in enumerate(many.shape) if axis and size == batch)
                for sample in range(batch):
                    checks.close(many.narrow(axis, sample, 1), alone, f"batch {batch}", 1e-4)


@pytest.mark.parametrize("name", ["unet", "upsampling unet", "norms", "shuffles", "drop path", "auxiliary"])
def test_other_resolutions(name: str) -> None:
    packed, _ = _packed(name, num_estimators=2)
    channels = next(iter(packed.parameters())).shape[1]
    x = torch.randn(2, channels, 12, 16).double()
    network = checks.randomised(packed)
    checks.check_equality(network, x)
    checks.check_poison(network, x)


def test_arguments_that_do_not_fit() -> None:
    packed, (image, table) = _packed("two inputs")
    with pytest.raises((packify.PackError, TypeError)):
        packed(image)
    with pytest.raises(packify.PackError):
        packed(image, None)
    with pytest.raises(TypeError):
        packed(image, table, 1.0, 2.0)


def test_a_plain_argument_that_was_baked_is_not_silently_ignored() -> None:
    packed, (image, table) = _packed("two inputs")
    with pytest.raises(packify.PackError, match="scale"):
        packed(image, table, scale=3.0)


def test_rows_that_members_cannot_share() -> None:
    packed = packify.pack(images.mlp(), torch.randn(4, 9), alpha=2, num_estimators=2, inputs="independent").train()
    with pytest.raises(packify.PackError, match="independent") as caught:
        packed(torch.randn(7, 9))
    assert "(7, 9)" in str(caught.value)
    assert packed.eval()(torch.randn(7, 9)).shape[0] == 7
    with pytest.raises(packify.SpecError, match="inputs"):
        packed.inputs = "own"


def test_independent_inputs_can_be_switched_on_and_off() -> None:
    x, own = torch.randn(6, 9), torch.randn(8, 9)
    packed = packify.pack(images.mlp(), x, alpha=2, num_estimators=2)
    other = copy.deepcopy(packed)
    keys, weights = list(packed.state_dict()), list(packed.parameters())
    packed.inputs = "independent"
    assert list(packed.state_dict()) == keys
    assert all(now is before for now, before in zip(packed.parameters(), weights, strict=True))
    assert torch.equal(packed.eval()(x), other.eval()(x))
    assert torch.equal(packed.members(x), other.members(x))
    packed.train()
    for module in packed.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    copies = [copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))]
    wanted = torch.cat([packed.extract(member)(own.chunk(2)[member]) for member in range(2)])
    for network in (packed, *copies):
        torch.testing.assert_close(network(own), wanted)
    packed.inputs = "shared"
    assert packed(x).shape[0] == 12


def test_the_digest_knows_the_settings_of_layers() -> None:
    packed, _ = _packed("mlp")
    digests = {packed.digest}
    for name, setting in (("1", "eps"), ("1", "momentum"), ("3", "p")):
        setattr(packed.get_submodule(name), setting, 0.25)
        digests.add(packed.digest)
    assert len(digests) == 4
    assert _packed("mlp")[0].digest in digests


def test_an_optional_input_that_was_absent_is_refused() -> None:
    packed, x = _packed("absent input")
    with pytest.raises(packify.PackError):
        packed(x, torch.randn(3, 2))


@pytest.mark.parametrize("member", [4, -5, 1.0, True, "0"])
def test_members_that_do_not_exist(member: Any) -> None:
    packed, _ = _packed("mlp")
    with pytest.raises(packify.PackError):
        packed.extract(member)


def test_the_last_member_by_a_negative_number() -> None:
    packed, _ = _packed("mlp")
    for one, other in zip(packed.extract(-1).parameters(), packed.extract(3).parameters(), strict=True):
        assert torch.equal(one, other)


def test_extracted_members_hold_copies_and_train() -> None:
    packed, x = _packed("mlp")
    single = packed.extract(1).train()
    before = copy.deepcopy(packed.state_dict())
    optimiser = torch.optim.Adam(single.parameters())
    single(x).square().sum().backward()
    optimiser.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in packed.state_dict().items())


def test_extracted_members_take_the_packed_networks_settings() -> None:
    packed, _ = _packed("mlp")
    packed.get_submodule("3").p = 0.0
    packed.get_submodule("1").momentum = 0.5
    single = packed.extract(0)
    assert single.get_submodule("3").p == 0.0
    assert single.get_submodule("1").momentum == 0.5


# -- being a module ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _SOME)
def test_copies(name: str) -> None:
    packed, inputs = _packed(name)
    packed.eval()
    copied = copy.deepcopy(packed)
    with torch.no_grad():
        assert torch.equal(_first(copied, inputs), _first(packed, inputs))
        for parameter in packed.parameters():
            parameter.zero_()
        assert any(parameter.any() for parameter in copied.parameters())
        _first(copied.train(), inputs)


@pytest.mark.parametrize("name", _SOME)
def test_whole_modules_survive_pickling(name: str) -> None:
    packed, inputs = _packed(name)
    packed.eval()
    file = io.BytesIO()
    torch.save(packed, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    with torch.no_grad():
        assert torch.equal(_first(loaded, inputs), _first(packed, inputs))
    assert loaded.spec == packed.spec


@pytest.mark.parametrize("name", _SOME)
def test_state_dicts_round_trip(name: str) -> None:
    packed, inputs = _packed(name, seed=1)
    other, _ = _packed(name, seed=2)
    other.load_state_dict(packed.state_dict())
    with torch.no_grad():
        assert torch.equal(_first(other.eval(), inputs), _first(packed.eval(), inputs))


@pytest.mark.parametrize(
    "cast",
    [
        nn.Module.double,
        nn.Module.bfloat16,
        nn.Module.half,
        lambda network: network.to(torch.float64),
        lambda network: network.to("cpu", torch.bfloat16),
    ],
)
@pytest.mark.parametrize("name", ["lenet", "unet", "vit", "window", "lstm", "encoder", "mixer"])
def test_casts(name: str, cast: Callable[[nn.Module], nn.Module]) -> None:
    packed, inputs = _packed(name)
    packed = cast(packed).eval()
    dtype = next(packed.parameters()).dtype
    with torch.no_grad():
        out = _first(packed, inputs.to(dtype))
        assert out.dtype == dtype
        single = _first(packed.extract(0), inputs.to(dtype))
        assert single.dtype == dtype
        checks.close(_first(packed.members, inputs.to(dtype))[0].double(), single.double(), "member 0", 0.05)


@pytest.mark.parametrize("name", ["lenet", "unet", "norms", "vit", "window", "lstm", "encoder", "mixer", "einsums", "text"])
def test_autocast(name: str) -> None:
    packed, inputs = _packed(name)
    for training in (True, False):
        packed.train(training)
        with torch.autocast("cpu", torch.bfloat16):
            out = _first(packed.members, inputs)
        assert torch.isfinite(out).all()
        out.float().square().sum().backward()
    with torch.no_grad():
        checks.close(out.float(), _first(packed.members, inputs).float(), "autocast", 0.1)


@pytest.mark.slow_cases("unet", "vit", "dict output", "lenet", "mixer", "reused")
@pytest.mark.parametrize("name", ["lenet", "unet", "vit", "window", "mixer", "reused", "dict output", "text"])
def test_compiles(name: str) -> None:
    packed, inputs = _packed(name, num_estimators=2)
    torch.compiler.reset()
    for training in (False, True):
        packed.train(training)
        compiled = torch.compile(copy.deepcopy(packed), backend="aot_eager" if name == "lenet" else "eager", fullgraph=True)
        with torch.no_grad():
            checks.close(_first(compiled, inputs), _first(packed, inputs), "compiled", 1e-4)


@pytest.mark.slow
def test_gradients_through_a_compiled_network() -> None:
    packed, x = _packed("lenet", num_estimators=2)
    torch.compiler.reset()
    compiled = torch.compile(packed.train(), backend="aot_eager")
    compiled(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in packed.parameters())


def test_exports() -> None:
    packed, x = _packed("lenet", num_estimators=2)
    packed.eval()
    program = torch.export.export(packed, (x,))
    with torch.no_grad():
        checks.close(program.module()(x), packed(x), "exported", 1e-5)


@pytest.mark.parametrize(
    "make",
    [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad],
)
def test_elementwise_optimisers_train_every_member_as_alone(make: Callable[..., torch.optim.Optimizer]) -> None:
    packed, x = _packed("lenet", num_estimators=2)
    network, x = checks.randomised(packed).train(), x.double()
    singles = [network.extract(member) for member in range(2)]
    for part in (network, *singles):
        optimiser = make(part.parameters())
        for _ in range(2):
            optimiser.zero_grad()
            checks.call(part.members if part is network else part, x).sin().sum().backward()
            optimiser.step()
    for member, single in enumerate(singles):
        for (name, mine), other in zip(network.named_parameters(), single.parameters(), strict=True):
            checks.close(mine.detach().chunk(2)[member], other.detach(), name, 1e-5)


def test_data_parallel_training_in_one_process() -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch has no distributed")
    packed, x = _packed("lenet", num_estimators=2)
    expected = copy.deepcopy(packed)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(packed)
        parallel(x).square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    expected(x).square().sum().backward()
    for (name, mine), other in zip(packed.named_parameters(), expected.parameters(), strict=True):
        checks.close(mine.grad, other.grad, name, 1e-5)


def test_submodules_are_reached_by_the_references_names() -> None:
    packed, _ = _packed("unet")
    assert tuple(packed.down1[0].weight.shape) == (8, 3, 3, 3)
    assert packed.get_submodule("down1.0") is packed.down1[0]
    assert len(packed.down1) == 5
    text = repr(packed)
    assert "BatchNorm2d(8" in text
    assert "PackedNetwork" in text


def test_the_first_conv_of_a_shared_input_has_no_groups() -> None:
    packed, x = _packed("unet")
    first = packed.down1[0]
    assert (first.in_channels, first.out_channels, first.groups) == (3, 8, 1)
    assert first(x).shape == (3, 8, 8, 8)


def test_layers_tell_their_sizes() -> None:
    packed, _ = _packed("unet")
    inner, up = packed.down2[0], packed.up2
    assert (inner.in_channels, inner.out_channels, inner.groups) == (8, 16, 4)
    assert (up.in_channels, up.out_channels, up.groups) == (32, 16, 4)
    assert packed.down1[1].num_features == 8


def test_children_called_like_attributes_of_a_packed_network() -> None:
    model = interfaces.Colliding()
    packed = packify.pack(model, torch.randn(3, 5), alpha=2, num_estimators=2)
    x = torch.randn(3, 5)
    assert packed.members(x).shape == (2, 3, 3)
    assert list(packed.state_dict()) == list(model.state_dict())
    assert packed.report.packed_params
    assert packed.num_estimators == 2
    copied = copy.deepcopy(packed)
    packed.double()
    assert dict(copied.named_parameters())["body.weight"].dtype == torch.float32
    assert tuple(packed.get_parameter("members.weight").shape) == (16, 5)
    assert isinstance(packed.get_submodule("report"), nn.Module)


def test_modes_of_submodules_switch() -> None:
    packed, x = _packed("mlp")
    packed.eval()
    assert not any(module.training for module in packed.modules())
    with torch.no_grad():
        assert torch.equal(packed(x), packed(x))
    packed.train()
    assert all(module.training for module in packed.modules())
    with torch.no_grad():
        assert not torch.equal(packed(x), packed(x))


def test_a_frozen_batch_norm_stays_frozen() -> None:
    packed, x = _packed("mlp")
    packed.train()
    packed.get_submodule("1").eval()
    before = packed.get_buffer("1.running_mean").clone()
    packed(x)
    assert torch.equal(before, packed.get_buffer("1.running_mean"))


def test_batch_norm_counts_as_alone() -> None:
    packed, x = _packed("mlp")
    packed.train()
    for _ in range(3):
        packed(x)
    assert int(packed.get_buffer("1.num_batches_tracked")) == 3


def test_parametrisations_and_hooks_of_users_on_the_packed_network() -> None:
    packed, x = _packed("lenet")
    seen: list[int] = []
    handle = packed.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    packed.eval()(x)
    handle.remove()
    assert seen == [3]


def test_digests_tell_networks_apart() -> None:
    one, _ = _packed("lenet")
    same, _ = _packed("lenet", seed=5)
    other, _ = _packed("lenet", num_estimators=2)
    assert one.digest == same.digest
    assert one.digest != other.digest


@pytest.mark.parametrize("build", [images.LeNet, sequences.Vit])
def test_one_member_of_full_width_is_the_reference(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = build()
    x = torch.randn(2, 1, 24, 24) if build is images.LeNet else torch.randn(2, 3, 8, 8)
    packed = packify.pack(model, x, alpha=1, num_estimators=1).eval()
    packed.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(packed.members(x)[0], model.eval()(x))
