"""Parameters that forward never reads are left out of the packed network, its budget and its artefact, unless they are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify import artefact
from packify.capture.graphs import record_graphs
from packify.core.spec import Spec
from tests.laws import checks

OPTIONS: dict[str, Any] = {"alpha": 2, "num_estimators": 4}
DROPPED = {
    "stages.2.conv.weight",
    "stages.2.conv.bias",
    "stages.2.norm.weight",
    "stages.2.norm.bias",
    "stages.2.norm.running_mean",
    "stages.2.norm.running_var",
    "stages.2.norm.num_batches_tracked",
    "rnn.weight_ih_l0",
    "rnn.weight_hh_l0",
    "rnn.bias_ih_l0",
    "rnn.bias_hh_l0",
    "token",
    "mixing.bias",
}


class _Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()


class Decoder(nn.Module):
    """Uses two of three stages, the weight of a layer without its bias, and one parameter in training mode only."""

    def __init__(self, last: int = 64) -> None:
        super().__init__()
        self.stages = nn.ModuleList((_Stage(3, 16), _Stage(16, 32), _Stage(32, last)))
        self.rnn, self.mixing, self.head = nn.GRU(8, last), nn.Linear(32, 32), nn.Linear(32, 10)
        self.token, self.noise = nn.Parameter(torch.zeros(7)), nn.Parameter(torch.zeros(32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[1](self.stages[0](x)).mean((2, 3))
        x = x @ self.mixing.weight
        return self.head(x + self.noise if self.training else x)


def _model(**kwargs: int) -> tuple[Decoder, Tensor]:
    torch.manual_seed(0)
    return Decoder(**kwargs), torch.randn(2, 3, 8, 8)


def test_what_neither_mode_reads_is_unused() -> None:
    assert record_graphs(*_model()).unused == DROPPED


def test_it_is_left_out_everywhere() -> None:
    model, x = _model()
    packed = packify.pack(model, x, **OPTIONS)
    wanted = [name for name in model.state_dict() if name not in DROPPED]
    assert list(packed.state_dict()) == list(packed.extract(1).state_dict()) == wanted
    costs = packify.budget(model, x, **OPTIONS)
    assert costs.member.params == packed.report.member_params == sum(p.numel() for p in packed.extract(0).parameters())
    assert costs.packed.params == packed.report.packed_params == sum(p.numel() for p in packed.parameters())
    assert costs.packed.buffers == sum(buffer.numel() for name, buffer in packed.named_buffers())
    assert costs.reference.params == packed.report.reference_params == sum(p.numel() for p in model.parameters())
    assert sum(layer.params for layer in costs.layers) == costs.packed.params
    assert sum(layer.reference_params for layer in costs.layers) == costs.reference.params


def test_the_report_names_it() -> None:
    notes = {note.node: note.what for note in packify.pack(*_model(), **OPTIONS).report.notes}
    assert notes == {
        "stages.2.conv": "is left out, 18496 parameters",
        "stages.2.norm": "is left out, 128 parameters",
        "rnn": "is left out, 14208 parameters",
        "mixing": "is left out, 32 parameters",
        "Decoder": "is left out, 7 parameters",
    }


def test_it_is_kept_where_asked_for() -> None:
    model, x = _model()
    packed = packify.pack(model, x, **OPTIONS, unused="keep")
    assert list(packed.state_dict()) == list(model.state_dict())
    assert packed.get_parameter("stages.2.conv.weight").shape == (4 * 64, 32, 3, 3)
    assert packify.budget(model, x, **OPTIONS, unused="keep").packed.params == packed.report.packed_params
    assert any("keeps the reference's size" in note.what for note in packed.report.notes)
    packed.extract(0).load_state_dict(packed.extract(1).state_dict())
    with pytest.raises(packify.SpecError, match="unused"):
        packify.pack(model, x, **OPTIONS, unused="maybe")  # type: ignore[arg-type]


def test_laws() -> None:
    model, x = _model()
    packed = packify.pack(model, x, **OPTIONS)
    packify.verify(packed)
    network = checks.randomised(packed)
    checks.check_equality(network, x.double())
    checks.check_budget(packed, model)


@pytest.mark.slow
def test_every_parameter_gets_a_gradient() -> None:
    packed = packify.pack(*_model(), **OPTIONS).train()
    packed(torch.randn(2, 3, 8, 8)).sum().backward()
    assert [name for name, parameter in packed.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("extracted", [False, True])
def test_the_references_state_says_what_is_left_out(extracted: bool) -> None:
    model, x = _model()
    packed = packify.pack_members([model], x)
    network: nn.Module = packed.extract(0) if extracted else packed
    with pytest.raises(RuntimeError, match=r"(?s)mixing.bias.*and 7 more: forward never reads them.*strict=False.*unused=\"keep\""):
        network.load_state_dict(model.state_dict())
    found = network.load_state_dict(model.state_dict(), strict=False)
    assert not found.missing_keys
    assert set(found.unexpected_keys) == DROPPED
    with pytest.raises(RuntimeError) as error:
        network.load_state_dict({"elsewhere": torch.zeros(1)})
    assert "never reads" not in str(error.value)


def test_trained_members_need_not_have_it() -> None:
    (one, x), (two, _) = _model(), _model(last=8)
    del two.token
    packed = packify.pack_members([one, two], x)
    torch.testing.assert_close(packed.eval().members(x), torch.stack([one.eval()(x), two.eval()(x)]))
    assert not DROPPED & packed.state_dict().keys()


def test_tied_parameters_are_read_under_each_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.never, self.layer, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
            self.never.weight = self.layer.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x).relu())

    torch.manual_seed(0)
    packed = packify.pack(Tied(), torch.randn(2, 8), alpha=2, num_estimators=2)
    assert list(packed.state_dict()) == ["never.weight", "layer.weight", "layer.bias", "head.weight", "head.bias"]
    assert packed.never.weight is packed.layer.weight


def test_artefacts(tmp_path: Path) -> None:
    model, x = _model()
    for unused in ("drop", "keep"):
        packed = packify.pack(model, x, **OPTIONS, unused=unused).eval()
        folder = packify.save(packed, tmp_path / unused)
        loaded = packify.load(folder, model=model)
        assert loaded.spec == Spec(**OPTIONS, unused=unused)
        assert list(loaded.state_dict()) == list(packed.state_dict())
        torch.testing.assert_close(loaded(x), packed(x))


def test_artefacts_of_the_first_format_kept_it(tmp_path: Path) -> None:
    model, x = _model()
    packed = packify.pack(model, x, **OPTIONS, unused="keep").eval()
    folder = Path(packify.save(packed, tmp_path / "old"))
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("weights_file") == "model.safetensors"
    config["format"] = 1
    del config["spec"]["unused"]
    (folder / "config.json").write_text(json.dumps(config))
    assert artefact.read_config(folder).spec.unused == "keep"
    torch.testing.assert_close(packify.load(folder, model=model)(x), packed(x))
    config["spec"]["unused"] = "sometimes"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(packify.ArtefactError, match="spec"):
        artefact.read_config(folder)
