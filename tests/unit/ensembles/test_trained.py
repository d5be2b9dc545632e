from __future__ import annotations

import pytest
import torch

import packify
from tests.laws import checks
from tests.models.catalogue import CASES


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
