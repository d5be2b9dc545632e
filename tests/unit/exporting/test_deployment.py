from __future__ import annotations

import pytest
import torch
from torch import nn

import packify
from packify.core.errors import SpecError
from packify.exporting.deployment import Deployment
from tests.unit.exporting.networks import conv_net, packed_of

X = torch.randn(2, 3, 8, 8)


def test_what_uncertainty_says() -> None:
    packed = packed_of(conv_net())
    found = Deployment(packed, X, ("mean", "members", "uncertainty"))(X)
    wanted = vars(packify.uncertainty(packed, X))
    assert found.keys() == {*wanted, "members"}
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)
    torch.testing.assert_close(found["members"], packed.members(X))
    torch.testing.assert_close(found["probabilities"], packed(X).softmax(-1))


@pytest.mark.parametrize(
    ("average", "names"),
    [
        ("sigmoid", {"probabilities", "confidence", "entropy"}),
        ("mean", {"mean", "epistemic"}),
        ("gaussian", {"mean", "aleatoric", "epistemic"}),
        ("none", {"output"}),
    ],
)
def test_other_averages(average: str, names: set[str]) -> None:
    model = nn.Sequential(conv_net(6), nn.Softplus()) if average == "gaussian" else conv_net(6)
    packed = packed_of(model, average)
    found = Deployment(packed, X)(X)
    assert names <= found.keys()
    if average != "none":
        wanted = vars(packify.uncertainty(packed, X))
        for name in found:
            torch.testing.assert_close(found[name], wanted[name], atol=1e-5, rtol=1e-4)
    else:
        assert found["output"].shape == (3, 2, 6)


def test_several_outputs_have_their_paths_in_front() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc, self.depth = conv_net(8), nn.Linear(8, 4), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            features = self.body(x)
            return {"logits": self.fc(features), "depth": self.depth(features)}

    packed = packed_of(Two(), {"logits": "probs", "depth": "mean"})  # type: ignore[arg-type]
    found = Deployment(packed, X)(X)
    assert {"logits_probabilities", "logits_entropy", "depth_mean", "depth_epistemic"} <= found.keys()


def test_a_single_network_is_one_member() -> None:
    model = conv_net().eval()
    found = Deployment(model, X, ("mean", "members"))(X)
    torch.testing.assert_close(found["probabilities"], model(X).softmax(-1))
    assert found["members"].shape == (1, 2, 5)
    assert Deployment(model, X, average="mean")(X).keys() == {"mean", "epistemic"}


def test_inputs_stay_float32() -> None:
    packed = packed_of(conv_net()).to(torch.bfloat16)
    found = Deployment(packed, X)(X)
    assert all(value.dtype in (torch.float32, torch.int64) for value in found.values())


@pytest.mark.parametrize("parts", [[], ["median"], "mean", ["mean", "spread"]])
def test_unknown_parts(parts: list[str]) -> None:
    with pytest.raises(SpecError, match="mean, members, uncertainty"):
        Deployment(conv_net(), X, parts)
