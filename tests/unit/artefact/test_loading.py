from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import packify
from packify import sources
from packify.artefact.weights import file_sha256
from packify.core.errors import ArtefactError
from tests.unit.artefact.artefacts import pack_small


def test_a_double_reference(nets: Path, tmp_path: Path) -> None:
    model = sources.load_reference(f"{nets}:conv").double()
    example = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    packed = packify.pack(model, example, alpha=2, num_estimators=2).eval()
    packify.save(packed, tmp_path / "net")
    assert torch.equal(packify.load(tmp_path / "net", model=model)(example), packed(example))


@pytest.mark.slow
def test_a_registrys_name_is_enough(tmp_path: Path) -> None:
    reference = sources.resolve("resnet18", num_classes=4, input_size=(3, 32, 32))
    packed = pack_small(reference).eval()
    packify.save(packed, tmp_path / "net", source=reference.source)
    example = reference.example()
    assert torch.equal(packify.load(tmp_path / "net")(example), packed(example))


def test_loading_leaves_the_reference_and_the_generator_alone(conv: sources.Reference, saved: Path) -> None:
    before = {key: value.clone() for key, value in conv.model.state_dict().items()}
    state = torch.get_rng_state()
    packify.load(saved, model=conv.model)
    assert all(torch.equal(value, before[key]) for key, value in conv.model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_nothing_is_unpickled(conv: sources.Reference, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    packify.load(saved, model=conv.model)


def test_a_users_factory_is_never_run(saved: Path, nets: Path) -> None:
    nets.write_text("raise RuntimeError('ran')")
    with pytest.raises(ArtefactError, match="model="):
        packify.load(saved)


def test_another_network_is_refused(saved: Path, nets: Path) -> None:
    for other in (sources.load_reference(f"{nets}:conv", args={"width": 48}), sources.load_reference(f"{nets}:Mlp"), nn.Identity()):
        with pytest.raises(ArtefactError, match="not the one that was saved"):
            packify.load(saved, model=other)


def _replace(weights: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Another file under that name: the tensors may lie in the one that is there."""
    other = weights.with_name("other.safetensors")
    save_file(tensors, other)
    other.replace(weights)


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_damaged_weights(saved: Path, conv: sources.Reference) -> None:
    weights = saved / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-5], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        weights.write_bytes(damaged)
        with pytest.raises(ArtefactError, match="truncated or changed"):
            packify.load(saved, model=conv.model)
    for crafted in (b"\xff" * 16, b"\x02\0\0\0\0\0\0\0{}" + b"x"):
        weights.write_bytes(crafted)
        _edit(saved, weights_sha256=file_sha256(weights))
        with pytest.raises(ArtefactError):
            packify.load(saved, model=conv.model)
    weights.unlink()
    with pytest.raises(ArtefactError, match="no such file"):
        packify.load(saved, model=conv.model)


def test_keys_and_shapes_that_do_not_fit(saved: Path, conv: sources.Reference) -> None:
    weights = saved / "model.safetensors"
    tensors = load_file(weights)
    name = min(tensors)
    for changed in (
        {key: value for key, value in tensors.items() if key != name},
        tensors | {"more": torch.zeros(1)},
        tensors | {name: torch.zeros(3, 1)},
        tensors | {name: tensors[name].long()},
    ):
        _replace(weights, changed)
        _edit(saved, weights_sha256=file_sha256(weights))
        with pytest.raises(ArtefactError):
            packify.load(saved, model=conv.model)


def test_more_members_than_the_file_has(saved: Path, conv: sources.Reference) -> None:
    _edit(saved, spec={"alpha": 2.0, "num_estimators": 60000})
    with pytest.raises(ArtefactError, match="M members"):
        packify.load(saved, model=conv.model)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"alpha": 1.0, "num_estimators": 2}, r"alpha: 1.0 in config.json, 2.0 in model.safetensors;.* 0.weight: on disk \(64, 3, 3, 3\)"),
        ({"alpha": 2, "num_estimators": 1}, "num_estimators: 1 in config.json, 2 in"),
        ({"alpha": 2, "num_estimators": 2, "gamma": 2, "min_channels_per_group": 1}, "gamma: 2 in config.json, 1 in"),
        ({"alpha": 2, "num_estimators": 2, "gamma": 63}, "gamma: 63 in config.json, 1 in"),
        ({"alpha": 2, "num_estimators": 2, "round_to": 48}, "round_to: 48 in config.json, 1 in"),
    ],
)
def test_config_and_weights_that_disagree(saved: Path, conv: sources.Reference, spec: dict[str, Any], said: str) -> None:
    _edit(saved, spec=spec)
    with pytest.raises(ArtefactError, match=said) as caught:
        packify.load(saved, model=conv.model)
    assert "config and weights disagree" in caught.value.why
    assert "pip install" not in caught.value.fix


def test_weights_of_another_artefact(saved: Path, conv: sources.Reference, tmp_path: Path) -> None:
    packify.save(pack_small(conv, alpha=3, num_estimators=3, inputs="independent"), tmp_path / "other")
    (tmp_path / "other/model.safetensors").replace(saved / "model.safetensors")
    _edit(saved, weights_sha256=file_sha256(saved / "model.safetensors"))
    with pytest.raises(ArtefactError, match=r"inputs: shared in config\.json, independent in") as caught:
        packify.load(saved, model=conv.model)
    assert "alpha: 2.0 in config.json, 3.0 in" in caught.value.found


@pytest.mark.slow
def test_weights_that_say_nothing_are_compared_by_their_shapes(tmp_path: Path) -> None:
    """As other tools write them: no metadata. The registry's network is the one that was saved, so config.json is not."""
    reference = sources.resolve("resnet18", num_classes=4, input_size=(3, 32, 32))
    folder = packify.save(pack_small(reference), tmp_path / "net", source=reference.source)
    _replace(folder / "model.safetensors", load_file(folder / "model.safetensors"))
    assert isinstance(
        _edit(folder, weights_sha256=file_sha256(folder / "model.safetensors")) or packify.load(folder), packify.PackedNetwork
    )
    _edit(folder, spec={"alpha": 1, "num_estimators": 2})
    with pytest.raises(ArtefactError, match=r"config\.json is not what was saved") as caught:
        packify.load(folder)
    assert "conv1.weight: on disk (128, 3, 7, 7)" in caught.value.found


def test_a_name_that_the_registry_does_not_know(saved: Path) -> None:
    _edit(saved, source={"kind": "timm", "name": "resnet18_from_the_future", "args": {}})
    with pytest.raises(ArtefactError, match="pip install"):
        packify.load(saved)


@pytest.mark.slow_cases("eps", "1-momentum")
@pytest.mark.parametrize(("name", "setting"), [("1", "eps"), ("1", "momentum"), ("2", "p")])
def test_a_reference_with_another_setting_is_refused(tmp_path: Path, name: str, setting: str) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 3))

    packify.save(packify.pack(net(), torch.randn(2, 5), alpha=2, num_estimators=2), tmp_path / "net")
    other = net()
    setattr(other.get_submodule(name), setting, 0.25)
    with pytest.raises(ArtefactError, match="another structure"):
        packify.load(tmp_path / "net", model=other)
    with torch.inference_mode():
        loaded = packify.load(tmp_path / "net", model=torch.compile(net()))
    loaded(torch.randn(2, 5)).sum().backward()
