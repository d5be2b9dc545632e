"""Checkpoints as training scripts write them, and files that are none."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import packify
from packify.ensembles.checkpoints import load_checkpoint, read_checkpoint


def _net(seed: int = 0, classes: int = 3, width: int = 6) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(width * 9, classes))
    with torch.no_grad():
        net[1].running_mean.normal_()  # type: ignore[operator, union-attr]
    return net.eval()


X = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def _prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


_WRITTEN = {
    "plain": lambda state: state,
    "ordered": OrderedDict,
    "timm": lambda state: {"epoch": 3, "arch": "resnet", "state_dict": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
    "model": lambda state: {"model": state, "epoch": 1, "lr": [0.1]},
    "ema": lambda state: {"model_ema": {"n_averaged": torch.tensor(4), **_prefixed(state, "module.")}},
    "data parallel": lambda state: {"model_state_dict": _prefixed(state, "module.")},
    "compiled": lambda state: _prefixed(state, "_orig_mod."),
    "both": lambda state: {"state_dict": _prefixed(state, "module._orig_mod.")},
    "lightning": lambda state: {"state_dict": _prefixed(state, "model."), "hyper_parameters": {"lr": 0.1}},
    "nested": lambda state: {"model": {"state_dict": state}},
}


@pytest.mark.parametrize("how", _WRITTEN)
def test_what_training_scripts_write(how: str, tmp_path: Path) -> None:
    trained = _net(1)
    torch.save(_WRITTEN[how](trained.state_dict()), tmp_path / "last.pth")
    loaded = load_checkpoint(_net(2), tmp_path / "last.pth")
    assert torch.equal(loaded(X), trained(X))


def test_a_name_that_looks_like_a_prefix_is_part_of_the_network(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = _net(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x)

    trained = Wrapped()
    torch.save(trained.state_dict(), tmp_path / "own.pt")
    torch.save(_prefixed(trained.state_dict(), "module."), tmp_path / "parallel.pt")
    for name in ("own.pt", "parallel.pt"):
        assert torch.equal(load_checkpoint(Wrapped(), tmp_path / name)(X), trained(X))


def test_members_from_files_are_the_deep_ensemble(tmp_path: Path) -> None:
    networks = [_net(seed) for seed in range(3)]
    save_file(networks[0].state_dict(), tmp_path / "a.safetensors")
    torch.save({"state_dict": _prefixed(networks[1].state_dict(), "module.")}, tmp_path / "b.pth")
    (tmp_path / "c").mkdir()
    save_file(networks[2].half().state_dict(), tmp_path / "c" / "model.safetensors")
    networks[2].float()
    paths = [tmp_path / "a.safetensors", str(tmp_path / "b.pth"), tmp_path / "c"]
    reference = _net(9)
    before = copy.deepcopy(reference.state_dict())
    for packed in (
        packify.pack_members(packify.load_members(reference, paths), X, average="probs"),
        packify.pack_members(paths, X, average="probs", model=reference),
        packify.pack_members(paths, X, average="probs", model=lambda: _net(8)),
    ):
        members = packed.eval().members(X)
        for member, network in enumerate(networks):
            torch.testing.assert_close(members[member], network(X))
        torch.testing.assert_close(packed(X).exp(), torch.stack([network(X).softmax(-1) for network in networks]).mean(0))
    assert all(torch.equal(before[key], value) for key, value in reference.state_dict().items())
    with pytest.raises(packify.SpecError, match="model="):
        packify.pack_members(paths, X)
    with pytest.raises(packify.SpecError):
        packify.load_members(reference, [])


class _Harmful:
    def __reduce__(self) -> Any:
        return print, ("code of the file ran",)


def test_a_pickle_of_objects_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "whole.pth"
    for value in (_net(), {"state_dict": _net().state_dict(), "extra": _Harmful()}):
        torch.save(value, file)
        with pytest.raises(packify.ArtefactError, match=r"found: an object of [\w.]+\n(.*\n)*.*state_dict\(\)") as caught:
            read_checkpoint(file)
        assert str(file) in str(caught.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_damaged_files(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    save_file(_net().state_dict(), file) if name.endswith("s") else torch.save(_net().state_dict(), file)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:10], b"", b"hello world", b"\x00" * 64, b"\x80\x04\x95junk"):
        file.write_bytes(content)
        with pytest.raises(packify.ArtefactError) as caught:
            read_checkpoint(file)
        assert str(file) in str(caught.value)
    with pytest.raises(packify.ArtefactError, match="no such file"):
        read_checkpoint(tmp_path / "missing.pth")
    with pytest.raises(packify.ArtefactError, match="no such file"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("value", [{}, [1, 2], torch.ones(3), {"epoch": 3}, {"state_dict": {}}])
def test_files_without_a_state_dict(value: Any, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "odd.pt")
    with pytest.raises(packify.ArtefactError, match="no tensors by name"):
        read_checkpoint(tmp_path / "odd.pt")


def test_checkpoints_of_another_architecture(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"

    def refused(state: dict[str, Any]) -> str:
        torch.save(state, file)
        model = _net(5)
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(packify.ArtefactError) as caught:
            load_checkpoint(model, file)
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
        return str(caught.value)

    text = refused(_net(classes=4).state_dict())
    assert "4.weight" in text
    assert "(4, 54)" in text
    assert "(3, 54)" in text
    state = _net().state_dict()
    del state["1.bias"]
    assert "missing 1.bias (6,)" in refused(state)
    assert "unknown more (2, 2)" in refused({**_net().state_dict(), "more": torch.ones(2, 2)})
    assert "NaN" in refused({**_net().state_dict(), "1.bias": torch.full((6,), float("nan"))})
    assert "complex64" in refused({**_net().state_dict(), "1.bias": torch.ones(6, dtype=torch.complex64)})


def test_tied_weights_may_be_saved_once(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    trained, x = Tied(), torch.randn(2, 4)
    state = trained.state_dict()
    del state["b.weight"]
    save_file(state, tmp_path / "tied.safetensors")
    assert torch.equal(load_checkpoint(Tied(), tmp_path / "tied.safetensors")(x), trained(x))
