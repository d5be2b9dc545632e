import json

import pytest
import torch
from torch import nn

from packify import budget, pack, record
from packify.core.errors import BudgetError, SpecError
from packify.core.spec import Spec


class Net(nn.Module):
    """Convolutions, norms, a residual and a head, with a scalar and a table among its buffers."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.stem(x)))
        x = x + torch.relu(self.bn2(self.conv(x)))
        return self.head(x.mean((2, 3)))


X = torch.zeros(2, 3, 8, 8)


@pytest.fixture(scope="module")
def found():
    return budget(Net(), X, alpha=2, num_estimators=4)


def test_reference_and_member_by_hand(found):
    assert found.reference.params == 3 * 32 * 9 + 32 + 64 + 32 * 32 * 9 + 64 + 330
    assert found.reference.mult_adds == 64 * (27 * 32 + 32 * 32 * 9) + 320
    assert found.member.params == 3 * 16 * 9 + 16 + 32 + 16 * 16 * 9 + 32 + 170
    assert found.member.mult_adds == 64 * (27 * 16 + 16 * 16 * 9) + 160


def test_packed_is_m_members_with_one_of_each_scalar_buffer(found):
    assert found.packed.params == 4 * found.member.params
    assert found.packed.mult_adds == 4 * found.member.mult_adds
    assert found.member.buffers == 4 * 16 + 2
    assert found.packed.buffers == 4 * 4 * 16 + 2


def test_deep_ensemble_is_m_references(found):
    assert found.deep_ensemble.params == 4 * found.reference.params
    assert found.deep_ensemble.mult_adds == 4 * found.reference.mult_adds
    assert found.deep_ensemble.inference_bytes == found.reference.inference_bytes


def test_the_members_share_the_input(found):
    pixels = 3 * 64 * 4
    assert found.packed.inference_bytes == 4 * found.member.inference_bytes - 3 * pixels
    assert found.packed.training_bytes == 4 * found.member.training_bytes - 3 * pixels


def test_in_turn_one_member_is_kept(found):
    networks = found.networks()
    assert {name: cost.training_bytes_in_turn for name, cost in networks.items()} == {
        "reference": found.reference.training_bytes,
        "member": found.member.training_bytes,
        "packed": found.member.training_bytes,
        "deep_ensemble": found.reference.training_bytes,
    }
    assert found.packed.training_bytes_in_turn < found.packed.training_bytes / 2


def test_in_turn_is_what_autograd_keeps_in_a_turn():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 4)), torch.randn(16, 6)
    packed = pack(model, x, alpha=2, num_estimators=4)
    most = 0
    for member in packed.turns():
        kept = {}

        def pack_hook(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
            loss = member(x).sum()
        own = {parameter.untyped_storage().data_ptr() for parameter in packed.parameters()}
        most = max(most, sum(size for place, size in kept.items() if place not in own))
        loss.backward()
    assert most == 16 * budget(model, x, alpha=2, num_estimators=4).packed.training_bytes_in_turn


def test_layers_add_up_to_the_packed_network(found):
    assert sum(layer.params for layer in found.layers) == found.packed.params
    assert sum(layer.mult_adds for layer in found.layers) == found.packed.mult_adds
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert sum(layer.reference_params for layer in found.layers) == found.reference.params
    assert [layer.name for layer in found.layers] == ["stem", "bn1", "conv", "bn2", "head"]


def test_layers_say_widths_and_groups(found):
    layers = {layer.name: layer for layer in found.layers}
    assert (layers["stem"].width, layers["stem"].groups) == (64, 1)
    assert (layers["conv"].reference_width, layers["conv"].member_width, layers["conv"].groups) == (32, 16, 4)
    assert (layers["head"].width, layers["head"].groups) == (40, 4)
    assert layers["bn1"].width is None


def test_gamma_divides_parameters_and_mult_adds():
    one, two = (budget(Net(), X, alpha=2, num_estimators=4, gamma=g, gamma_policy="uniform") for g in (1, 2))
    assert one.packed.params - two.packed.params == 4 * 16 * 16 * 9 // 2
    assert one.packed.mult_adds - two.packed.mult_adds == 64 * 4 * 16 * 16 * 9 // 2
    assert [layer.gamma for layer in two.layers if layer.gamma] == [1, 2, 1]


def test_a_reference_packed_as_itself_costs_itself():
    same = budget(Net(), X, alpha=1, num_estimators=1)
    assert same.packed == same.reference == same.member == same.deep_ensemble


def test_a_meta_device_model_of_many_parameters_needs_no_memory():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(20_000, 30_000), nn.ReLU(), nn.Linear(30_000, 30_000), nn.ReLU(), nn.Linear(30_000, 10))
        found = budget(model, torch.zeros(2, 20_000), alpha=2, num_estimators=4)
    assert found.reference.params > 1.5e9
    assert found.packed.mult_adds == 4 * (20_000 * 15_000 + 15_000**2 + 150_000)


def test_bytes_by_dtype():
    full = budget(Net(), X, alpha=2, num_estimators=4)
    half = budget(Net(), X, alpha=2, num_estimators=4, dtype="bfloat16")
    assert full.packed.weight_bytes == {"float32": 4 * (full.packed.params + full.packed.buffers - 2), "int64": 16}
    assert half.packed.weight_bytes == {"bfloat16": 2 * (full.packed.params + full.packed.buffers - 2), "int64": 16}
    assert half.packed.inference_bytes * 2 == full.packed.inference_bytes
    assert (full.dtype, half.dtype) == ("float32", "bfloat16")


def test_tied_weights_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 8)
            self.second = nn.Linear(8, 8)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(torch.relu(self.first(x)))

    found = budget(Tied(), torch.zeros(2, 8), alpha=1, num_estimators=2)
    assert found.reference.params == 64 + 16
    assert sum(layer.params for layer in found.layers) == found.packed.params


def test_members_are_slimmed_once_per_ratio_and_gamma(monkeypatch):
    planner = record(Net(), X).planner()
    slimmed = []
    member = planner._slimmer.member
    monkeypatch.setattr(planner._slimmer, "member", lambda spec: slimmed.append(spec) or member(spec))
    specs = [Spec(1, 2), Spec(2, 4), Spec(4, 8, 1, "uniform"), Spec(2, 2)]
    costs = [planner.budget(spec) for spec in specs]
    assert len(slimmed) == 2
    assert costs[1].packed.params == 2 * costs[0].packed.params
    assert [cost.spec for cost in costs] == specs


def test_the_model_is_left_as_it_was():
    model = Net().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    budget(model, X, alpha=2, num_estimators=4)
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_to_dict_is_json(found):
    document = json.loads(json.dumps(found.to_dict()))
    assert document["packed"]["params"] == found.packed.params
    assert document["packed"]["params_ratio"] == pytest.approx(found.params_ratio)
    assert len(document["layers"]) == 5


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"convention": "flops"}, BudgetError, "counted by macs or torchinfo"),
        ({"dtype": "int8"}, BudgetError, "floating numbers"),
        ({"dtype": "float33"}, BudgetError, "floating numbers"),
        ({"alpha": 0}, SpecError, "positive"),
    ],
)
def test_wrong_arguments(options, error, says):
    with pytest.raises(error, match=says):
        budget(Net(), X, **({"alpha": 2, "num_estimators": 4} | options))
