from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from packify.core.errors import SourceError
from packify.sources import resolve


def test_a_file_and_its_neighbours(nets: Path) -> None:
    before = list(sys.path)
    reference = resolve(f"{nets}:conv", num_classes=7, args={"width": 16})
    assert reference.source.to_dict() == {"kind": "file", "name": f"{nets}:conv", "args": {"width": 16, "num_classes": 7}}
    assert reference.input_size == (3, 8, 8)
    assert reference.model(torch.zeros(1, 3, 8, 8)).shape == (1, 7)
    assert sys.path == before


def test_a_class_is_a_factory(nets: Path) -> None:
    assert resolve(f"{nets}:Mlp", args={"hidden": 4}).input_size == (12,)


def test_a_module_of_this_folder(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nets.parent)
    nets.rename(nets.with_name("my_own_nets.py"))
    assert isinstance(resolve("my_own_nets:conv").model, nn.Sequential)


def test_input_size_can_be_given_instead(nets: Path) -> None:
    assert resolve(f"{nets}:unsized").input_size is None
    assert resolve(f"{nets}:unsized", input_size=(3,)).input_size == (3,)


def test_example_inputs_of_the_users_own(nets: Path) -> None:
    example = resolve(f"{nets}:Tokens").example()
    assert example.shape == (2, 5)
    assert example.dtype == torch.long


def test_meta_builds_without_data(nets: Path) -> None:
    assert all(parameter.is_meta for parameter in resolve(f"{nets}:conv", device="meta").model.parameters())


def test_meta_falls_back_where_numbers_are_read(nets: Path) -> None:
    before = torch.get_rng_state()
    assert all(parameter.is_meta for parameter in resolve(f"{nets}:reads_numbers", device="meta").model.parameters())
    assert torch.equal(before, torch.get_rng_state())


def test_shared_tensors_stay_shared_on_meta(nets: Path) -> None:
    model = resolve(f"{nets}:Tied", device="meta").model
    assert model.get_parameter("a.weight") is model.get_parameter("b.weight")
    text = nets.read_text().replace("self.b.weight = self.a.weight", "self.b.weight = self.a.weight; self.a.weight.sum().item()")
    nets.write_text(text)
    model = resolve(f"{nets}:Tied", device="meta").model
    assert model.get_parameter("a.weight") is model.get_parameter("b.weight")
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def test_the_line_that_raised_is_shown(nets: Path) -> None:
    with pytest.raises(SourceError) as error:
        resolve(f"{nets}:broken")
    assert 'raise ValueError("no such depth")' in error.value.where
    assert "nets.py:" in error.value.where
    assert error.value.found == "ValueError: no such depth"


@pytest.mark.parametrize(
    ("attribute", "says"),
    [
        ("not_a_network", "torch.nn.Module"),
        ("leaves", "SystemExit"),
        ("missing", "no missing in"),
        ("ready", "def build"),
        ("conv.input_size", "a factory is a function or a class"),
    ],
)
def test_what_is_no_factory(nets: Path, attribute: str, says: str) -> None:
    with pytest.raises(SourceError) as error:
        resolve(f"{nets}:{attribute}")
    assert says in str(error.value)


def test_options_that_the_factory_does_not_take(nets: Path) -> None:
    with pytest.raises(SourceError, match=r"leave --in-chans out"):
        resolve(f"{nets}:Mlp", in_chans=3)
    with pytest.raises(SourceError, match="num_classes"):
        resolve(f"{nets}:unsized", num_classes=3)


@pytest.mark.parametrize(
    ("text", "where"),
    [("def f(:\n", "bad.py:1: def f(:"), ("import nosuchthing\n", "bad.py:1: import nosuchthing"), ("x = 1\n1 / 0\n", "bad.py:2: 1 / 0")],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(SourceError) as error:
        resolve(f"{tmp_path}/bad.py:f")
    assert where in error.value.where


def test_files_and_modules_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file"):
        resolve(f"{tmp_path}/none.py:f")
    with pytest.raises(SourceError, match="no module nosuchpackage"):
        resolve("nosuchpackage.nets:f")
