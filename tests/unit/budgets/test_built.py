"""Law 7: what is predicted is what is built. Parameters exactly; Mult-Adds as FlopCounterMode measures them, halved."""

import pytest
import timm
import torch
import torchinfo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import packify
from packify import budget
from packify.budgets.measuring import measure, network
from packify.budgets.torchinfo import torchinfo_mult_adds
from packify.capture.graphs import record_graphs

SPECS = [(2, 4, 1, "paper"), (2, 4, 2, "uniform"), (1.5, 3, 1, "paper"), (3, 2, 2, "paper")]
BUILT = ["test_resnet", "test_vit", "test_convnext", "test_efficientnet_evos", "test_nfnet", "test_mambaout"]


class Recurrent(nn.Module):
    """An embedding, an LSTM and attention: what FlopCounterMode sees of a sequence model."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Linear(6, 16)
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.lstm(self.embedding(x))[0]
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def measured(model, x):
    """Mult-Adds of one forward pass, on the meta device: FlopCounterMode misses a CPU's fused attention and LSTM."""
    model = model.eval().requires_grad_(requires_grad=False).to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x.to("meta"))
    return counter.get_total_flops() // 2


def reference(name):
    if name == "recurrent":
        return Recurrent(), torch.zeros(2, 7, 6)
    model = timm.create_model(name)
    return model, torch.zeros(2, *model.default_cfg["input_size"])


@pytest.mark.slow_cases("convnext", "test_resnet-2-4-2-uniform")
@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec[0]}-{spec[1]}-{spec[2]}-{spec[3]}")
@pytest.mark.parametrize("name", [*BUILT, "recurrent"])
def test_a_built_network_costs_what_was_predicted(name, spec):
    model, x = reference(name)
    alpha, count, gamma, policy = spec
    options = {"alpha": alpha, "num_estimators": count, "gamma": gamma, "gamma_policy": policy, "min_channels_per_group": 4}
    found = budget(model, x, **options)
    packed = packify.pack(model, x, **options)
    assert sum(p.numel() for p in packed.parameters()) == found.packed.params
    assert sum(b.numel() for b in packed.buffers()) == found.packed.buffers
    assert sum(p.numel() for p in packed.extract(0).parameters()) == found.member.params
    assert measured(packed, x[:1]) == found.packed.mult_adds
    assert measured(model, x[:1]) == found.reference.mult_adds


@pytest.mark.slow_cases("test_coatnet")
@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("name", timm.list_models("test_*"))
def test_references_agree_with_flop_counter_mode_and_torchinfo(name):
    model = packify.load_reference(f"timm:{name}", device="meta").eval()  # timm 1.0.20 reads numbers while it builds
    x = torch.zeros(2, *model.default_cfg["input_size"], device="meta")
    recorded = record_graphs(model, x)
    recorded = network(recorded.root, recorded.graphs["eval"], recorded.constants, batched=True)
    run = measure(recorded)
    torchinfo_total = torchinfo.summary(model, input_data=x[:1], verbose=0, device="meta").total_mult_adds
    assert sum(torchinfo_mult_adds(recorded.root, run.steps).values()) == torchinfo_total
    assert sum(step.mult_adds for step in run.steps) == measured(model, x[:1])
