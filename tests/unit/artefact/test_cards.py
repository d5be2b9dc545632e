from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import ModelCard

import packify
from packify import sources
from packify.artefact.cards import model_card, write_card, written_beside
from packify.core.errors import ArtefactError, SpecError
from tests.unit.artefact.artefacts import pack_small, trained


def test_what_it_tells(saved: Path, conv: sources.Reference) -> None:
    text = write_card(saved, model=conv.model, license="mit", repo_id="me/net").read_text()
    head = ModelCard(text).data.to_dict()
    assert head["library_name"] == "packify"
    assert head["license"] == "mit"
    assert "model-index" not in head
    costs = packify.budget(conv.model, conv.example(), alpha=2, num_estimators=2)
    assert f"| packed | {costs.packed.params:,} | {costs.packed.mult_adds:,} |" in text
    assert "alpha 2, M 2, gamma 1" in text
    assert "float32 of shape bx3x8x8" in text
    assert "packify.load('hf-hub:me/net', model=network)" in text
    assert "Not evaluated" in text


@pytest.mark.slow
def test_a_registrys_network_and_its_line_that_loads(tmp_path: Path) -> None:
    reference = sources.resolve("test_resnet", num_classes=4, input_size=(3, 32, 32))
    folder = packify.save(pack_small(reference).eval(), tmp_path / "net", source=reference.source)
    text = model_card(folder)
    code = text.partition("```python\n")[2].partition("```")[0]
    found: dict[str, object] = {"x": torch.randn(2, 3, 32, 32)}
    exec(code, found)
    assert isinstance(found["packed"], packify.PackedNetwork)
    assert "timm's" in text
    assert "Apache-2.0" in text
    assert "| reference |" in text  # costs, without asking for the network


@pytest.mark.slow
def test_published_weights_are_credited(tmp_path: Path) -> None:
    source = sources.Source("timm", "resnet18.a1_in1k", {"num_classes": 4}, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    reference = sources.resolve("resnet18", num_classes=4, input_size=(3, 32, 32))
    folder = packify.save_member(pack_small(reference), 0, tmp_path / "net", source=source)
    text = model_card(folder)
    assert ModelCard(text).data.to_dict()["base_model"] == "timm/resnet18.a1_in1k"
    licence = getattr(timm.get_pretrained_cfg("resnet18.a1_in1k"), "license", None)  # timm 1.0.20 names none there
    assert ModelCard(text).data.to_dict().get("license") == licence
    assert "mean (0.5, 0.5, 0.5)" in text
    assert text.count("Member 0 of") == 1


def test_metrics(saved: Path, conv: sources.Reference) -> None:
    network = packify.load(saved, model=conv.model)
    x = conv.example()
    found = packify.evaluate(network, [(x, torch.zeros(len(x), dtype=torch.long))], ood=[x + 1])
    for given in (found, json.loads(json.dumps(found.to_dict()))):
        text = model_card(saved, evaluation=given, dataset="noise")
        results = ModelCard(text).data.to_dict()["model-index"][0]["results"][0]
        assert results["dataset"]["name"] == "noise"
        assert {metric["type"]: metric["value"] for metric in results["metrics"]}["accuracy"] == found.accuracy
        assert "| mutual information |" in text
    for wrong in ({}, {"loss": 3}, "good", 3):
        with pytest.raises(SpecError, match="packify evaluate"):
            model_card(saved, evaluation=wrong)  # type: ignore[arg-type]


def test_nothing_is_replaced_unasked(saved: Path) -> None:
    write_card(saved)
    with pytest.raises(ArtefactError, match="--force"):
        write_card(saved)
    write_card(saved, force=True, license="mit")
    (saved / "README.md").write_text("# Notes\n")
    for force in (False, True):
        with pytest.raises(ArtefactError, match="did not write"):
            write_card(saved, force=force)
    assert (saved / "README.md").read_text() == "# Notes\n"


def test_what_is_no_artefact(tmp_path: Path, saved: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ArtefactError, match="no artefact"):
            write_card(folder)
    (saved / "model.safetensors").unlink()
    with pytest.raises(ArtefactError, match="no such file"):
        write_card(saved)
    assert not (saved / "README.md").exists()


def test_a_card_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError("the disk has gone")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="gone"):
        written_beside(tmp_path / "README.md", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_loaded_artefact_with_a_card(saved: Path, conv: sources.Reference) -> None:
    packed = trained(pack_small(conv))
    write_card(saved)
    x = conv.example()
    assert torch.equal(packify.load(saved, model=conv.model)(x), packed(x))
