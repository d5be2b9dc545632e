from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify import sources
from packify.core.errors import ArtefactError
from tests.unit.artefact.artefacts import pack_small, trained
from tests.unit.artefact.hub_server import Hub, ask


def test_published_and_loaded_again(hub: Hub, conv: sources.Reference, saved: Path) -> None:
    name = packify.push_to_hub(saved, "me/small")
    assert name == "hf-hub:me/small"
    assert hub.files["me/small"]["main"].keys() == {"README.md", "config.json", "model.safetensors"}
    assert sum("/commit/" in request for request in hub.requests) == 1  # all or nothing
    card = hub.files["me/small"]["main"]["README.md"].decode()
    assert "packify.load('hf-hub:me/small', model=network)" in card
    x = conv.example()
    assert torch.equal(packify.load(name, model=conv.model)(x), packify.load(saved, model=conv.model)(x))
    assert not (saved / "README.md").exists()  # the artefact is as it was


@pytest.mark.slow
def test_a_packed_network_is_saved_first(hub: Hub, tmp_path: Path) -> None:
    reference = sources.resolve("test_resnet", num_classes=4, input_size=(3, 32, 32))
    packed = pack_small(reference).eval()
    name = packify.push_to_hub(packed, "me/resnet18", source=reference.source, license="mit", revision="v1")
    assert name == "hf-hub:me/resnet18@v1"
    assert hub.files["me/resnet18"]["v1"]["README.md"].startswith(b"---\n")
    assert b"license: mit" in hub.files["me/resnet18"]["v1"]["README.md"]
    x = reference.example()
    assert torch.equal(packify.load(name)(x), packed(x))  # a registry's name is enough


def test_shards_and_what_they_replace(hub: Hub, conv: sources.Reference, saved: Path, tmp_path: Path) -> None:
    packify.push_to_hub(saved, "me/net")
    packed = trained(pack_small(conv))
    packify.save(packed, tmp_path / "large", source=conv.source, max_shard_size="40KB")
    packify.push_to_hub(tmp_path / "large", "me/net")
    names = hub.files["me/net"]["main"]
    assert "model.safetensors" not in names
    assert len([name for name in names if name.startswith("model-")]) > 1
    x = conv.example()
    assert torch.equal(packify.load("hf-hub:me/net", model=conv.model)(x), packed(x))


def test_a_card_that_was_edited_is_published_as_it_is(hub: Hub, saved: Path) -> None:
    card = packify.write_card(saved)
    card.write_text(card.read_text() + "\nMy own words.\n")
    packify.push_to_hub(saved, "me/net")
    assert hub.files["me/net"]["main"]["README.md"].endswith(b"My own words.\n")


def test_only_whole_artefacts_are_published(hub: Hub, saved: Path, tmp_path: Path) -> None:
    with (saved / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtefactError, match="what was saved"):
        packify.push_to_hub(saved, "me/net")
    with pytest.raises(ArtefactError, match="no artefact"):
        packify.push_to_hub(tmp_path / "nothing", "me/net")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["", "net", "me/net/deep", "../net", "me/..", "me/net@", "https://hub/me/net", "me/n et"])
def test_names(hub: Hub, saved: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match="user/name"):
        packify.push_to_hub(saved, name)
    assert hub.requests == []


def test_a_hub_that_refuses(hub: Hub, saved: Path) -> None:
    hub.refuse = 403
    with pytest.raises(ArtefactError, match="the hub refused") as caught:
        packify.push_to_hub(saved, "me/net")
    assert "hf auth login" in caught.value.fix
    assert caught.value.where == "hf-hub:me/net"


def test_a_hub_that_is_not_there(hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(ArtefactError, match="cannot be reached, and nothing was published"):
        packify.push_to_hub(saved, "me/net", endpoint="http://127.0.0.1:9")


def test_a_users_own_network_needs_the_network(hub: Hub, saved: Path, nets: Path) -> None:
    packify.push_to_hub(saved, "me/net")
    nets.write_text("raise RuntimeError('ran')")
    with pytest.raises(ArtefactError, match="model="):
        packify.load("hf-hub:me/net")


def test_what_a_hub_holds_is_never_run(hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch, conv: sources.Reference) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("unpickled")

    packify.push_to_hub(saved, "me/net")
    for files in hub.files["me/net"].values():
        files |= {"pytorch_model.bin": b"\x80\x04.", "modeling.py": b"raise SystemExit"}
    hub.files["me/net"][hub.name(hub.files["me/net"]["main"])] = hub.files["me/net"]["main"]
    hub.requests.clear()
    for module, name in (("pickle", "load"), ("pickle", "loads"), ("torch", "load")):
        monkeypatch.setattr(f"{module}.{name}", refuse)
    packify.load("hf-hub:me/net", model=conv.model)
    assert {request.rpartition("/")[2] for request in hub.requests} == {"config.json", "model.safetensors"}


def test_the_metrics_of_an_evaluation(hub: Hub, saved: Path, conv: sources.Reference) -> None:
    network = packify.load(saved, model=conv.model)
    x = conv.example()
    found = packify.evaluate(network, [(x, torch.zeros(len(x), dtype=torch.long))])
    packify.push_to_hub(saved, "me/net", evaluation=found, dataset="noise", model=conv.model)
    card = hub.files["me/net"]["main"]["README.md"].decode()
    assert f"| noise | {found.samples} | {found.accuracy:.4f} |" in card
    assert json.loads(hub.files["me/net"]["main"]["config.json"])["format"] >= 3
    assert isinstance(network, nn.Module)
