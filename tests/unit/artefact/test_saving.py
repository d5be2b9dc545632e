from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify import artefact, sources
from packify.core.errors import ArtefactError, PackError, TraceError
from tests.unit.artefact.artefacts import pack_small, trained


@pytest.mark.parametrize("name", ["conv", "Mlp", "Tied", "Tokens"])
@pytest.mark.parametrize("options", [{}, {"alpha": 1.5, "num_estimators": 3}, {"gamma": 2, "min_channels_per_group": 1}])
def test_the_same_outputs(nets: Path, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    reference = sources.resolve(f"{nets}:{name}")
    packed = trained(pack_small(reference, **options))
    packify.save(packed, tmp_path / "net", source=reference.source)
    loaded = packify.load(tmp_path / "net", model=reference.model)
    example = reference.example()
    assert torch.equal(loaded(example), packed(example))
    assert torch.equal(loaded.members(example), packed.members(example))
    assert loaded.state_dict().keys() == packed.state_dict().keys()
    assert loaded.spec == packed.spec
    assert not loaded.training


def test_ties_survive(nets: Path, tmp_path: Path) -> None:
    reference = sources.resolve(f"{nets}:Tied")
    packify.save(trained(pack_small(reference)), tmp_path / "net", source=reference.source)
    loaded = packify.load(tmp_path / "net", model=reference.model)
    assert loaded.get_parameter("a.weight") is loaded.get_parameter("b.weight")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_casts_survive(conv: sources.Reference, tmp_path: Path, dtype: torch.dtype) -> None:
    packed = pack_small(conv).to(dtype).eval()
    packify.save(packed, tmp_path / "net", source=conv.source)
    loaded = packify.load(tmp_path / "net", model=conv.model)
    example = conv.example().to(dtype)
    assert torch.equal(loaded(example), packed(example))


def test_a_member_of_its_own(conv: sources.Reference, tmp_path: Path) -> None:
    packed = trained(pack_small(conv))
    artefact.save_member(packed, 1, tmp_path / "one", source=conv.source)
    loaded = packify.load(tmp_path / "one", model=conv.model)
    example = conv.example()
    torch.testing.assert_close(loaded(example), packed.extract(1).eval()(example))
    assert loaded.state_dict().keys() == conv.model.state_dict().keys()


def test_what_is_no_packed_network_or_no_folder(conv: sources.Reference, saved: Path, tmp_path: Path) -> None:
    packed = pack_small(conv)
    for other in (conv.model, None, packed.extract(0)):
        with pytest.raises(PackError, match="save_member"):
            packify.save(other, tmp_path / "other")
        with pytest.raises(PackError):
            packify.save_member(other, 0, tmp_path / "other")
    for function in (lambda: packify.save(packed, None), lambda: packify.load(None)):
        with pytest.raises(ArtefactError, match="folder"):
            function()
    for model in ("resnet18", nn.Linear):
        with pytest.raises(TraceError):
            packify.load(saved, model=model)
    packify.save_member(packed, 0, tmp_path / "single")
    assert isinstance(packify.load(tmp_path / "single", model=conv.model), packify.MemberNetwork)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("other", "."))] == []


def test_new_heads_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(2, 5)
    packed = packify.pack(model, x, alpha=2, num_estimators=2, average="probs").eval()
    packed.resize("2", 37)
    packify.save(packed, tmp_path / "packed")
    packify.save_member(packed, 1, tmp_path / "member")
    loaded = packify.load(tmp_path / "packed", model=model)
    assert torch.equal(loaded(x), packed(x))
    assert loaded.resized == {"2": 37}
    assert torch.equal(packify.load(tmp_path / "member", model=model)(x), packed.extract(1)(x))
