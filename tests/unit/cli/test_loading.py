from __future__ import annotations

from pathlib import Path

import pytest

import packify
from packify import artefact, sources
from packify.cli.loading import load_network, load_packed
from packify.core.errors import ArtefactError


@pytest.fixture
def saved(nets: Path, tmp_path: Path) -> Path:
    reference = sources.resolve(f"{nets}:Mlp", args={"hidden": 8})
    packed = packify.pack(reference.model, reference.example(), alpha=2, num_estimators=2, average="mean")
    artefact.save_member(packed, 1, tmp_path / "one", source=reference.source)
    return artefact.save(packed, tmp_path / "net", source=reference.source)


def test_the_factory_gets_the_arguments_that_it_was_saved_with(saved: Path, nets: Path) -> None:
    assert load_packed(saved, f"{nets}:Mlp", None).get_parameter("one.weight").shape == (2 * 8, 12)
    with pytest.raises(ArtefactError):
        load_packed(saved, f"{nets}:Mlp", ["hidden=32"])


def test_an_own_factory_must_be_named(saved: Path) -> None:
    with pytest.raises(ArtefactError, match="--model"):
        load_packed(saved, None, None)


def test_one_member_is_no_packed_network(saved: Path, nets: Path) -> None:
    folder = saved.with_name("one")
    assert isinstance(load_network(folder, f"{nets}:Mlp", None), packify.MemberNetwork)
    with pytest.raises(ArtefactError, match="member 1 alone"):
        load_packed(folder, f"{nets}:Mlp", None)
