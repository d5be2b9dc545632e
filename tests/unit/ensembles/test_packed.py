"""The three ways to a packed network, and what they refuse."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import packify
from packify.ops.table import RULES
from tests.laws import checks
from tests.models import images, interfaces, sequences
from tests.models.catalogue import CASES


def _small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


# -- pack: no harm -------------------------------------------------------------------------------------------------------


def test_the_reference_and_the_random_states_are_untouched() -> None:
    model = _small().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    calls: list[str] = []
    model[0].register_forward_hook(lambda *_: calls.append("forward"))
    model.register_forward_pre_hook(lambda *_: calls.append("before"))
    x = torch.randn(2, 3, 8, 8)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    with checks.untouched(model):
        packed = packify.pack(model, x, alpha=2, num_estimators=2)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()
    assert calls == []
    assert torch.is_grad_enabled()
    assert packed.training
    assert not packed.get_submodule("1").training
    assert not packed.get_parameter("0.weight").requires_grad
    assert any("hook" in note.what for note in packed.report.notes)


@pytest.mark.parametrize("name", ["vit", "unet", "old weight norm", "lstm", "seq2seq"])
def test_packing_leaves_the_random_state_alone(name: str) -> None:
    model, inputs = CASES[name].build(), CASES[name].inputs()
    state = torch.get_rng_state()
    packify.pack(model, inputs, alpha=2, num_estimators=2)
    assert torch.equal(state, torch.get_rng_state())


def test_one_seed_gives_one_network() -> None:
    model, x = _small(), torch.randn(2, 3, 8, 8)
    first = packify.pack(model, x, alpha=2, num_estimators=2, seed=3)
    torch.randn(5)
    again, other = (packify.pack(model, x, alpha=2, num_estimators=2, seed=seed) for seed in (3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.get_parameter("0.weight"), other.get_parameter("0.weight"))
    one, two = first.get_parameter("0.weight").chunk(2)
    assert not torch.equal(one, two)


def test_the_packed_network_shares_no_storage_with_the_reference() -> None:
    model = interfaces.Tables()
    packed = packify.pack(model, torch.randn(2, 5, 6), alpha=1, num_estimators=1)
    theirs = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    assert not theirs & {tensor.data_ptr() for tensor in (*packed.parameters(), *packed.buffers())}


# -- pack: what it takes --------------------------------------------------------------------------------------------------


def test_example_inputs_as_tensor_tuple_and_dict() -> None:
    model = interfaces.TwoInputs()
    image, table = torch.randn(2, 3, 5, 5), torch.randn(2, 4)
    by_place = packify.pack(model, (image, table), alpha=2, num_estimators=2)
    by_name = packify.pack(model, {"image": image, "table": table}, alpha=2, num_estimators=2)
    with torch.no_grad():
        expected = by_place.members(image, table)
        checks.close(by_name.members(table=table, image=image), expected, "by name")
        checks.close(by_place.members(image, table=table), expected, "by both")


def test_a_reference_on_the_meta_device_gives_a_network_there() -> None:
    with torch.device("meta"):
        model = _small()
    packed = packify.pack(model, torch.empty(2, 3, 8, 8), alpha=2, num_estimators=2)
    assert all(parameter.is_meta for parameter in packed.parameters())
    assert packed.report.packed_params == sum(parameter.numel() for parameter in packed.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_reference_of_another_dtype(dtype: torch.dtype) -> None:
    packed = packify.pack(_small().to(dtype), torch.randn(2, 3, 8, 8, dtype=dtype), alpha=2, num_estimators=2)
    assert {parameter.dtype for parameter in packed.parameters()} == {dtype}
    assert packed(torch.randn(2, 3, 8, 8, dtype=dtype)).dtype == dtype


def test_example_batch_of_one() -> None:
    packed = packify.pack(_small(), torch.randn(1, 3, 8, 8), alpha=2, num_estimators=2).eval()
    assert packed(torch.randn(7, 3, 8, 8)).shape == (7, 4)


def test_averages_can_be_chosen() -> None:
    x = torch.randn(3, 5)
    packed = packify.pack(interfaces.Outputs("dict"), x, alpha=2, num_estimators=2, average={"out": "probs", "aux": "mean"}).eval()
    with torch.no_grad():
        members, out = packed.members(x), packed(x)
    checks.close(out["out"].exp(), members["out"].softmax(-1).mean(0), "probs", 1e-5)
    checks.close(out["aux"], members["aux"].mean(0), "mean", 1e-5)
    packed = packify.pack(interfaces.Outputs("dict"), x, alpha=2, num_estimators=2, average="none").eval()
    assert packed(x)["aux"].shape == (2, 3, 4)


def test_independent_inputs_are_a_matter_of_training_only() -> None:
    x, own = torch.randn(6, 3, 8, 8), torch.randn(9, 3, 8, 8)
    packed = packify.pack(_small(), x, alpha=2, num_estimators=3, inputs="independent").eval()
    with torch.no_grad():
        assert packed.members(x).shape == (3, 6, 4)
        assert packed(x).shape == (6, 4)
        for member in range(3):
            checks.close(packed.members(x)[member], packed.extract(member)(x), f"member {member}", 1e-5)
        packed.train()
        assert copy.deepcopy(packed).members(x).shape == (3, 6, 4)
        singles = [packed.extract(member) for member in range(3)]
        outputs = packed(own)
        for member, single in enumerate(singles):
            checks.close(outputs.chunk(3)[member], single(own.chunk(3)[member]), f"member {member}", 1e-5)


class Cell(nn.Module):
    """A layer that no rule can look into: its weights meet in a way that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) if float(x.detach().sum()) > -1e9 else x


def test_leaves_are_kept_whole() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 8), Cell(), nn.ReLU(), nn.Linear(8, 3)), torch.randn(3, 5)
    with pytest.raises(packify.TraceError, match="test_packed"):
        packify.pack(model, x, alpha=2, num_estimators=2)
    packed = packify.pack(model, x, alpha=2, num_estimators=2, leaves=[Cell])
    assert packed.report.fallbacks
    network = checks.randomised(packed)
    checks.check_equality(network, x.double())
    checks.check_poison(network, x.double())
    checks.check_parity(network, x.double())


# -- pack: what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_estimators": 0}, {"num_estimators": -1}, {"num_estimators": 2.0},
        {"alpha": 0}, {"alpha": -1}, {"alpha": float("nan")}, {"alpha": "2"},
        {"gamma": 0}, {"gamma": 1.5}, {"gamma_policy": "papers"}, {"min_channels_per_group": 0}, {"round_to": 0},
        {"inputs": "both"}, {"average": "median"}, {"average": {"nope": "none"}}, {"average": ["probs", "mean"]}, {"average": []},
        {"seed": "a"}, {"seed": 1.5}, {"seed": None}, {"seed": 2**70}, {"seed": -1},
        {"leaves": ["Conv2d"]}, {"leaves": None}, {"leaves": [nn.ReLU()]}, {"alpha": 1e9},
    ],
)  # fmt: skip
def test_wrong_numbers(wrong: dict[str, Any]) -> None:
    with pytest.raises(packify.SpecError) as caught:
        packify.pack(_small(), torch.randn(2, 3, 8, 8), **{"alpha": 2, "num_estimators": 2, **wrong})
    assert caught.value.where
    assert caught.value.fix


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        (None, "module"),
        (3, "module"),
        (nn.ReLU, r"ReLU\(\.\.\.\)"),
        (torch.relu, "module"),
        ("resnet18", "load_reference"),
        (torch.jit.trace(nn.Linear(3, 3), torch.randn(2, 3)), "made from"),
    ],
)
def test_something_that_is_no_module(model: Any, hint: str) -> None:
    x, spec = torch.randn(2, 3), {"alpha": 2, "num_estimators": 2}
    for function in (packify.pack, packify.budget):
        with pytest.raises(packify.TraceError, match=hint):
            function(model, x, **spec)
    with pytest.raises(packify.TraceError, match=hint):
        packify.pack_members([nn.Linear(3, 3), model], x)
    with pytest.raises(packify.TraceError, match=hint):
        packify.pack_submodule(model, "0", x, **spec)


def test_wrappers_are_taken_off() -> None:
    model = _small()
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        packed = packify.pack(wrapped, torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2)
        assert list(packed.state_dict()) == list(model.state_dict())


def test_whole_numbers_of_other_libraries() -> None:
    numbers = {"alpha": np.float32(2), "num_estimators": np.int64(4), "gamma": np.int64(2), "seed": np.int64(1)}
    packed = packify.pack(_small(), torch.randn(2, 3, 8, 8), **numbers)
    assert packed.spec == packify.Spec(2, 4, 2)
    assert json.dumps(packed.spec.to_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_an_example_of_another_dtype_than_the_weights(dtype: torch.dtype) -> None:
    with pytest.raises(packify.TraceError, match="float32"):
        packify.pack(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), torch.zeros(2, 5, dtype=dtype), alpha=2, num_estimators=2)


def test_a_network_without_anything_to_pack() -> None:
    with pytest.raises(packify.PackError, match="nothing to pack"):
        packify.pack(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.randn(2, 3), alpha=2, num_estimators=2)


class Returning(nn.Module):
    def __init__(self, what: Any) -> None:
        super().__init__()
        self.fc, self.what = nn.Linear(5, 3), what

    def forward(self, x: Tensor) -> Any:
        self.fc(x)
        return x if self.what == "x" else self.what


@pytest.mark.parametrize("what", ["hello", None, 3, torch.zeros(2, 0)])
def test_outputs_without_tensors(what: Any) -> None:
    with pytest.raises(packify.TraceError, match="no tensor"):
        packify.pack(Returning(what), torch.randn(2, 5), alpha=2, num_estimators=2)


def test_outputs_that_no_parameter_changes() -> None:
    notes = packify.pack(Returning("x"), torch.randn(2, 5), alpha=2, num_estimators=2).report.notes
    assert any("depends on a parameter" in note.what for note in notes)
    notes = packify.pack(_small(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2).report.notes
    assert not notes


@pytest.mark.parametrize(
    "register",
    [
        lambda model: model[0].register_forward_hook(print),
        lambda model: model[0].register_forward_pre_hook(print),
        lambda model: model[0].register_full_backward_hook(print),
        lambda model: model[0].register_full_backward_pre_hook(print),
        lambda model: model[0].weight.register_hook(print),
        lambda model: model[0].weight.register_post_accumulate_grad_hook(print),
    ],
)
def test_every_kind_of_hook_is_told(register: Any) -> None:
    model, x = _small(), torch.randn(2, 3, 8, 8)
    register(model)
    for packed in (packify.pack(model, x, alpha=2, num_estimators=2), packify.pack_members([_small(), model], x)):
        (note,) = packed.report.notes
        assert note.node.startswith("0")
        assert "hooks" in note.what


def test_hooks_that_compute_a_weight_are_part_of_the_network() -> None:
    model = nn.Sequential(torch.nn.utils.spectral_norm(nn.Linear(5, 8)), nn.ReLU(), nn.Linear(8, 3))
    assert not packify.pack(model, torch.randn(2, 5), alpha=2, num_estimators=2).report.notes


def test_leaves_and_rules_without_effect_are_told() -> None:
    rules = {"no_such_operator": packify.Rule("pointwise"), "relu": RULES["relu"]}
    report = packify.pack(_small(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2, leaves=nn.LSTM, rules=rules).report
    assert [note.node for note in report.notes] == ["LSTM", "rules['no_such_operator']"]


def _raising(*_: Any) -> Any:
    raise KeyError("oops")


def _elsewhere(builder: Any, node: Any, x: Any) -> Any:
    return builder.result(builder.again(node, (x,), {}), node.meta["val"], 7)


@pytest.mark.parametrize(
    ("part", "rule"),
    [
        ("widths", _raising),
        ("widths", lambda propagation, x: None),
        ("widths", lambda propagation, x: [*x.shape]),
        ("widths", lambda propagation, x: x.dims[1:]),
        ("pack", _raising),
        ("pack", lambda builder, node, x: None),
        ("pack", _elsewhere),
    ],
)
def test_what_a_users_rule_does_wrong_is_said_of_the_rule(part: str, rule: Any) -> None:
    parts = {"widths": lambda propagation, x: x.dims, part: rule}
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    with pytest.raises(packify.PackError) as caught:
        packify.pack(model, torch.randn(2, 5), alpha=2, num_estimators=2, rules={"tanh": packify.Rule("own", **parts)})
    assert caught.value.where == f"rules['tanh'].{part}"


def test_a_default_device_changes_nothing() -> None:
    model, x = _small(), torch.randn(2, 3, 8, 8)
    expected = packify.pack(model, x, alpha=2, num_estimators=2).state_dict()
    with torch.device("meta"):
        packed = packify.pack(model, x, alpha=2, num_estimators=2)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in packed.state_dict().items())


def test_inference_mode_ends_at_the_door() -> None:
    model, x = _small(), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        packed = packify.pack(model, x, alpha=2, num_estimators=2)
        single, together = packed.extract(0), packify.pack_members([model, _small()], x)
        inside = packify.verify(packed, torch.randn(2, 3, 8, 8))
    assert inside.activations
    for network in (packed, single, together):
        network(x).square().sum().backward()
        assert network.get_parameter("0.weight").grad is not None


@pytest.mark.parametrize(
    "inputs", [torch.randn(2, 3), torch.randn(2, 5, 8, 8), (torch.randn(2, 3, 8, 8),) * 2, {"y": torch.randn(2, 3, 8, 8)}, (), None, "x"]
)
def test_inputs_that_the_model_refuses(inputs: Any) -> None:
    with pytest.raises(packify.TraceError) as caught:
        packify.pack(_small(), inputs, alpha=2, num_estimators=2)
    assert caught.value.fix


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        if x.sum() > 0:
            x = -x
        return self.two(x)


def test_control_flow_on_values_names_the_users_line() -> None:
    with pytest.raises(packify.TraceError) as caught:
        packify.pack(Branching(), torch.randn(2, 5), alpha=2, num_estimators=2)
    line = 1 + next(number for number, text in enumerate(Path(__file__).read_text().splitlines()) if text.strip() == "if x.sum() > 0:")
    assert f"test_packed.py:{line}" in str(caught.value)
    assert "leaves" in str(caught.value)
    assert "pack_submodule" in str(caught.value)


def test_an_output_that_is_no_tensor() -> None:
    class Shape(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Any:
            return {"shape": x.shape[0], "name": "x", "out": self.fc(x)}

    packed = packify.pack(Shape(), torch.randn(2, 5), alpha=2, num_estimators=2).eval()
    out = packed(torch.randn(4, 5))
    assert out["shape"] == 4
    assert out["name"] == "x"
    assert out["out"].shape == (4, 3)


# -- pack_members -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "lenet",
        "mlp",
        "unet",
        "norms",
        "vit",
        "window",
        "text",
        "tables",
        "auxiliary",
        "reused",
        "weight norm",
        "mixer",
        "dataclass output",
        "two inputs",
    ],
)
def test_trained_networks_keep_their_outputs(name: str) -> None:
    case = CASES[name]
    networks = []
    for seed in range(3):
        torch.manual_seed(seed)
        network = case.build().double()
        with torch.no_grad():
            for buffer in network.buffers():
                if buffer.is_floating_point() and buffer.dim():
                    buffer.add_(torch.rand_like(buffer))
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        networks.append(network.eval())
    inputs = checks.doubled(case.inputs())
    packed = packify.pack_members(networks, inputs)
    with torch.no_grad():
        for index, network in enumerate(networks):
            theirs = checks.leaves(checks.call(network, inputs))
            for mine, other in zip(checks.leaves(checks.call(packed.members, inputs)), theirs, strict=True):
                checks.close(mine[index], other, f"network {index}")
    assert packed.spec.alpha == packed.num_estimators == 3
    assert not packed.training


def test_networks_that_differ() -> None:
    x = torch.randn(2, 9)
    with pytest.raises(packify.PackError, match=r"networks\[1\]"):
        packify.pack_members([images.mlp(), nn.Sequential(nn.Linear(9, 4))], x)
    for networks in ([], None, 3, nn.Sequential(nn.Linear(9, 4))):
        with pytest.raises(packify.SpecError, match="networks"):
            packify.pack_members(networks, x)


def _changed(change: str) -> nn.Module:
    model = _small()
    match change:
        case "activation":
            model[2] = nn.Tanh()
        case "stride":
            model[0].stride = (2, 2)
        case "eps":
            model[1].eps = 0.1
        case "dtype":
            model.double()
        case "frozen":
            model[0].weight.requires_grad_(False)
        case "no data":
            model.to("meta")
        case "training only":
            model[2] = nn.RReLU(0.2, 0.2)
    return model


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("activation", "networks[1]: 2"), ("stride", "networks[1]: 0"), ("eps", "networks[1]: 1"), ("training only", "networks[1]: 2"),
        ("dtype", "networks[1]"), ("frozen", "networks[1]"), ("no data", "networks[1]"),
    ],
)  # fmt: skip
def test_networks_that_differ_without_differing_in_shape(change: str, where: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    with pytest.raises(packify.PackError) as caught:
        packify.pack_members([_small(), _changed(change)], x)
    assert caught.value.where.startswith(where)
    assert packify.pack_members(nn.ModuleList([_changed(""), _changed("")]), x).num_estimators == 2


class Holding(nn.Module):
    def __init__(self, offset: float) -> None:
        super().__init__()
        self.fc, self.offset = nn.Linear(5, 3), torch.full((3,), offset)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + self.offset


def test_networks_that_differ_in_a_constant() -> None:
    x = torch.randn(2, 5)
    packify.pack_members([Holding(1.0), Holding(1.0)], x)
    with pytest.raises(packify.PackError, match="register it as a buffer"):
        packify.pack_members([Holding(1.0), Holding(2.0)], x)


class Buffered(nn.Module):
    def __init__(self, scale: float = 2.0, order: tuple[int, ...] = (2, 1, 0)) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3)
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("order", torch.tensor(order))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)[:, self.order] * self.scale


@pytest.mark.parametrize(("name", "other"), [("scale", Buffered(3.0)), ("order", Buffered(order=(0, 1, 2)))])
def test_networks_that_differ_in_what_members_share(name: str, other: nn.Module) -> None:
    x = torch.randn(2, 5)
    packify.pack_members([Buffered(), Buffered()], x)
    with pytest.raises(packify.PackError, match=rf"networks\[1\]: {name}"):
        packify.pack_members([Buffered(), other], x)


# -- pack_submodule ----------------------------------------------------------------------------------------------------------


class Detector(nn.Module):
    """Python around a trunk that can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 1))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x).mean((2, 3))
        return self.head(features) if features.sum() > -1e9 else features


def test_a_part_is_packed_and_the_rest_stays() -> None:
    model, x = Detector().eval(), torch.randn(2, 3, 6, 6)
    with checks.untouched(model):
        changed = packify.pack_submodule(model, "backbone", x, alpha=2, num_estimators=2)
    assert isinstance(changed.backbone, packify.PackedNetwork)
    assert changed(x).shape == (2, 2)
    assert torch.equal(changed.head.weight, model.head.weight)
    assert changed.head.weight.data_ptr() != model.head.weight.data_ptr()
    assert isinstance(model.backbone, nn.Sequential)


@pytest.mark.parametrize("name", ["", "trunk", "backbone.7", None, 3])
def test_a_part_that_is_not_there(name: Any) -> None:
    with pytest.raises(packify.PackError) as caught:
        packify.pack_submodule(Detector(), name, torch.randn(2, 3, 6, 6), alpha=2, num_estimators=2)
    assert caught.value.fix


# -- the report ---------------------------------------------------------------------------------------------------------------


def test_no_silence() -> None:
    torch.manual_seed(0)
    report = packify.pack(sequences.Vit(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=4).report
    assert any("head" in note.node for note in report.pins)
    assert str(report)
    report = packify.pack(images.vgg(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=3).report
    assert report.rounded
    report = packify.pack(interfaces.Wide(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=4, gamma=2).report
    lowered = {note.node for note in report.lowered}
    for layer in report.layers:
        assert (layer.gamma < layer.gamma_wanted) == (layer.name in lowered), layer
    assert lowered
    assert any(layer.gamma == 2 for layer in report.layers)
    report = packify.pack(sequences.Recurrent("lstm"), torch.randn(2, 4, 5), alpha=2, num_estimators=2).report
    assert report.fallbacks


def test_the_report_is_json() -> None:
    report = packify.pack(images.UNet(), torch.randn(2, 3, 8, 8), alpha=1.5, num_estimators=4, gamma=2).report
    values = json.loads(json.dumps(report.to_dict()))
    assert values["packed_params"] == report.packed_params
    assert {layer["name"] for layer in values["layers"]} >= {"down1.0", "up1", "out"}


@pytest.mark.parametrize("policy", ["paper", "uniform"])
def test_gamma_that_can_never_divide_is_an_error(policy: Any) -> None:
    with pytest.raises(packify.SpecError, match="gamma"):
        packify.pack(_small(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2, gamma=1000, gamma_policy=policy)


def test_widths_rounded_for_gamma_are_in_the_report() -> None:
    report = packify.pack(_small(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2, gamma=3, gamma_policy="uniform").report
    assert next(layer for layer in report.layers if layer.name == "3").member_out == 9
    assert report.rounded


# -- concrete_args -------------------------------------------------------------------------------------------------------


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor, mode: str, features: bool = False, scale: float | None = None) -> Tensor:
        if mode == "by value" and x.sum() > 0:
            x = -x
        y = self.trunk(x) if scale is None else self.trunk(x) * scale
        return y if features else self.head(y)


def test_concrete_args_choose_the_branch_for_good(tmp_path: Path) -> None:
    x = torch.randn(3, 6)
    chosen = {"mode": "plain", "features": True, "scale": 2.0}
    packed = packify.pack(_Branching(), x, alpha=2, num_estimators=2, concrete_args=chosen)
    packify.verify(packed)
    assert packed.members(x).shape == (2, 3, 8)
    torch.testing.assert_close(packed.members(x, "plain", features=True), packed.members(x))
    assert packed.extract(0)(x).shape == (3, 8)
    packify.save(packed, tmp_path / "packed")
    assert packify.load(tmp_path / "packed", model=_Branching()).members(x).shape == (2, 3, 8)
    with pytest.raises(packify.PackError, match="recorded with features=True"):
        packed(x, features=False)
    together = packify.pack_members([_Branching(), _Branching()], x, concrete_args={"mode": "plain"})
    assert together.members(x).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("concrete_args", "found"),
    [
        ({"mode": "plain", "no_such": 1}, "no_such"),
        ({"x": None, "mode": "plain"}, "x in example_inputs too"),
        ({"features": True}, "mode"),
    ],
)
def test_concrete_args_that_do_not_fit_are_refused(concrete_args: dict[str, Any], found: str) -> None:
    with pytest.raises(packify.TraceError, match=found):
        packify.pack(_Branching(), torch.randn(3, 6), alpha=2, num_estimators=2, concrete_args=concrete_args)


def test_the_three_ways_out_are_named_where_code_needs_values() -> None:
    with pytest.raises(packify.TraceError, match=r"leaves=.*concrete_args=.*pack_submodule"):
        packify.pack(_Branching(), (torch.randn(3, 6), "by value"), alpha=2, num_estimators=2)
