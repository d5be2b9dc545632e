"""Parts of a model packed as one ensemble: members stay apart from the first to the last, and the model takes and gives what it did."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import packify
from packify.core import nested
from tests.laws import checks


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


class TwoStages(nn.Module):
    """Features, Python that decides by their values, scores: what a detector looks like from afar."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 1))
        self.head = nn.ModuleDict({"scores": Scores(), "other": nn.Linear(2, 2)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.trunk(x)
        pyramid = [features, features[:, :, ::2, ::2]] if float(features.detach().sum()) > -1e9 else [features]
        out: dict[str, Tensor] = self.head["scores"](pyramid)
        return out


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU())
        self.logits, self.boxes = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 4, 1)

    def forward(self, pyramid: list[Tensor]) -> dict[str, Tensor]:
        towers = [self.tower(level) for level in pyramid]
        logits = torch.cat([self.logits(one).flatten(2) for one in towers], 2)
        boxes = torch.cat([self.boxes(one).flatten(2) for one in towers], 2)
        return {"logits": logits.transpose(1, 2), "boxes": boxes.transpose(1, 2)}


NAMES = ["trunk", "head.scores"]


def _two_stages(**settings: Any) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, x = TwoStages().double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    average = {"logits": "probs", "boxes": "mean"}
    with checks.untouched(model):
        changed = packify.pack_submodules(model, NAMES, x, alpha=2, num_estimators=4, average=average, **settings)
    return changed.eval(), x


def test_members_stay_apart_from_the_first_part_to_the_last() -> None:
    changed, x = _two_stages()
    alone = [packify.extract_submodules(changed, member)(x) for member in range(4)]
    found = changed(x)
    torch.testing.assert_close(found["boxes"], torch.stack([one["boxes"] for one in alone]).mean(0))
    probabilities = torch.stack([one["logits"].softmax(-1) for one in alone]).mean(0)
    torch.testing.assert_close(found["logits"].softmax(-1), probabilities)
    assert changed.trunk(x).shape == (8, 6, 8, 8)


def test_a_training_step_is_that_of_each_member_alone() -> None:
    changed, x = _two_stages()
    alone = [packify.extract_submodules(changed, member).train() for member in range(4)]
    batches = torch.randn(4, *x.shape, dtype=x.dtype)
    found = changed.train()(batches.flatten(0, 1))["boxes"].unflatten(0, (4, 2))
    for member, network in enumerate(alone):
        own = network(batches[member])["boxes"]
        torch.testing.assert_close(found[member], own)
        own.square().sum().backward()
    found.square().sum().backward()
    for name, parameter in changed.named_parameters():
        if parameter.grad is not None:
            shares = torch.cat([network.get_parameter(name).grad for network in alone])
            torch.testing.assert_close(parameter.grad, shares)
    for name, buffer in changed.named_buffers():
        if buffer.dim():
            torch.testing.assert_close(buffer, torch.cat([network.get_buffer(name) for network in alone]))


def test_one_batch_for_all_members() -> None:
    changed, x = _two_stages(inputs="shared")
    own = changed.train()(x)["boxes"].unflatten(0, (4, 2))
    changed, _ = _two_stages()
    torch.testing.assert_close(changed.train()(x.repeat(4, 1, 1, 1))["boxes"].unflatten(0, (4, 2)), own)


def test_its_state_dict_loads_and_copies_stay_one_ensemble() -> None:
    changed, x = _two_stages()
    other, _ = _two_stages(seed=7)
    assert not torch.equal(other(x)["boxes"], changed(x)["boxes"])
    other.load_state_dict(changed.state_dict())
    assert torch.equal(other(x)["boxes"], changed(x)["boxes"])
    assert torch.equal(pickle.loads(pickle.dumps(changed))(x)["boxes"], changed(x)["boxes"])
    assert torch.equal(copy.deepcopy(changed)(x)["boxes"], changed(x)["boxes"])


def test_the_budget_adds_the_parts_up() -> None:
    model, x = TwoStages(), torch.randn(2, 3, 8, 8)
    planned = packify.budget_submodules(model, NAMES, x, alpha=2, num_estimators=4)
    changed = packify.pack_submodules(model, NAMES, x, alpha=2, num_estimators=4, average="mean")
    assert planned.packed_params == sum(parameter.numel() for parameter in changed.parameters())
    assert planned.reference_params == sum(parameter.numel() for parameter in model.parameters())
    assert planned.other_params == 6
    assert planned.packed_mult_adds == sum(part.packed.mult_adds for part in planned.parts.values()) > 0
    assert planned.reference_mult_adds == sum(part.reference.mult_adds for part in planned.parts.values())


def test_example_inputs_of_every_part() -> None:
    model, features = TwoStages(), torch.randn(2, 6, 8, 8)
    examples = {"trunk": torch.randn(2, 3, 8, 8), "head.scores": ([features, features],)}
    changed = packify.pack_submodules(model, NAMES, examples, alpha=2, num_estimators=2, average="mean")
    assert changed.eval()(torch.randn(3, 3, 8, 8))["boxes"].shape[0] == 3


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["trunk", "head.other"], "no call of it"),
        (["trunk", "trunk.0"], "lies in it"),
        ([], r"\[\]"),
        ("trunk", "trunk"),
        (["trunk", "trunk"], "trunk"),
        (["trunk", "neck"], "neck"),
    ],
)
def test_parts_that_cannot_be(names: Any, found: str) -> None:
    with pytest.raises(packify.PackError, match=found):
        packify.pack_submodules(TwoStages(), names, torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2)


def test_a_batch_that_is_not_one_for_every_member() -> None:
    changed, x = _two_stages()
    with pytest.raises(packify.PackError, match="one batch per member"):
        changed.train()(x)
    with pytest.raises(packify.PackError, match="no packed parts"):
        packify.extract_submodules(TwoStages(), 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large", "fasterrcnn_resnet50_fpn"]
)
def test_detectors_of_torchvision(name: str) -> None:
    torch.manual_seed(0)
    two_stages = name.startswith("fasterrcnn")
    sizes = {} if name.startswith("ssd") else {"min_size": 64, "max_size": 64}
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=5, **sizes).eval()
    names = ["roi_heads.box_head", "roi_heads.box_predictor"] if two_stages else ["backbone", "head"]
    images = [torch.rand(3, 64, 64)]
    changed = packify.pack_submodules(model, names, (images,), alpha=2, num_estimators=2, average="mean").eval()
    kept: list[Any] = []
    for network in (changed, packify.extract_submodules(changed, 0), packify.extract_submodules(changed, 1)):
        network.get_submodule(names[-1]).register_forward_hook(lambda _module, _args, output: kept.append(nested.leaves(output)))
        with torch.no_grad():
            (found,) = network(images)
        assert found["boxes"].shape[1:] == (4,)
    for average, one, two in zip(*kept, strict=True):
        torch.testing.assert_close(average, (one + two) / 2, rtol=1e-4, atol=1e-4)
    if not two_stages:
        targets = [{"boxes": torch.tensor([[10.0, 10.0, 40.0, 40.0]]), "labels": torch.tensor([1])}]
        losses = changed.train()(images * 4, targets * 4)  # two members, batches of two
        sum(losses.values()).backward()
        assert all(bool(torch.isfinite(loss)) for loss in losses.values())
