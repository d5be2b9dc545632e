from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import packify
from packify import sources
from packify.artefact import read_config
from packify.artefact.weights import checked_size, file_sha256, read_index, weights_files
from packify.core.errors import ArtefactError, SpecError
from tests.unit.artefact.artefacts import pack_small, trained

INDEX = "model.safetensors.index.json"


@pytest.fixture
def sharded(conv: sources.Reference, tmp_path: Path) -> Path:
    return packify.save(trained(pack_small(conv)), tmp_path / "large", source=conv.source, max_shard_size="40KB")


def test_shards_hold_what_one_file_holds(sharded: Path, saved: Path, conv: sources.Reference) -> None:
    names = sorted(path.name for path in sharded.iterdir())
    shards = [name for name in names if name.startswith("model-")]
    assert len(shards) > 1
    assert names == sorted([*shards, INDEX, "config.json"])
    assert [path.name for path in weights_files(sharded, read_config(sharded))] == [INDEX, *shards]
    # an ordinary reader of shards, which knows nothing of packify
    index = json.loads((sharded / INDEX).read_text())
    whole = load_file(saved / "model.safetensors")
    assert index["weight_map"].keys() == whole.keys()
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
    for name, shard in index["weight_map"].items():
        assert torch.equal(load_file(sharded / shard)[name], whole[name])
    x = conv.example()
    assert torch.equal(packify.load(sharded, model=conv.model)(x), packify.load(saved, model=conv.model)(x))


def test_no_shard_is_larger_unless_one_tensor_is(sharded: Path) -> None:
    for shard in sharded.glob("model-*"):
        tensors = load_file(shard)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 40_000 or len(tensors) == 1


def test_the_same_bytes_every_time(conv: sources.Reference, tmp_path: Path) -> None:
    packed = trained(pack_small(conv))
    folders = [packify.save(packed, tmp_path / name, source=conv.source, max_shard_size="40KB") for name in "ab"]
    for file in folders[0].iterdir():
        assert file.read_bytes() == (folders[1] / file.name).read_bytes()


def test_force_replaces_shards(sharded: Path, conv: sources.Reference) -> None:
    packify.write_card(sharded)
    packify.save(trained(pack_small(conv)), sharded, source=conv.source, force=True)
    assert sorted(path.name for path in sharded.iterdir()) == ["config.json", "model.safetensors"]
    (sharded / "README.md").write_text("# My own notes\n")
    with pytest.raises(ArtefactError, match=r"README\.md"):
        packify.save(trained(pack_small(conv)), sharded, source=conv.source, force=True)


def _index(folder: Path, **changes: Any) -> None:
    path = folder / INDEX
    index = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(index))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"weights_sha256": file_sha256(path)}))


def test_damage(sharded: Path, conv: sources.Reference) -> None:
    shard = min(sharded.glob("model-*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ArtefactError, match=f"another SHA-256 than {INDEX} says"):
        packify.load(sharded, model=conv.model)
    shard.unlink()
    with pytest.raises(ArtefactError, match="no such file"):
        packify.load(sharded, model=conv.model)
    shard.write_bytes(whole)
    (sharded / INDEX).write_text("{}")
    with pytest.raises(ArtefactError, match=r"another SHA-256 than config\.json says"):
        packify.load(sharded, model=conv.model)


def test_an_index_that_anybody_may_have_written(sharded: Path, conv: sources.Reference, tmp_path: Path) -> None:
    digests, places = read_index(sharded / INDEX)
    outside = tmp_path / "model-00001-of-00002.safetensors"
    outside.write_bytes(min(sharded.glob("model-*")).read_bytes())
    first, second, *_ = digests
    moved = {name: second if shard == first else shard for name, shard in places.items()}
    for changes in (
        {"metadata": {}},
        {"metadata": {"sha256": {}}},
        {"metadata": {"sha256": {f"../{outside.name}": file_sha256(outside)}}},
        {"metadata": {"sha256": {str(outside): file_sha256(outside)}}},
        {"metadata": {"sha256": dict.fromkeys(digests, 3)}},
        {"metadata": {"sha256": digests}, "weight_map": []},
        {"weight_map": dict.fromkeys(places, "model-00009-of-00009.safetensors")},
        {"weight_map": {name: [] for name in places}},
        {"weight_map": moved},
        {"weight_map": {name: shard for name, shard in places.items() if shard != first}},
    ):
        _index(sharded, **{"metadata": {"sha256": digests}, "weight_map": places, **changes})
        with pytest.raises(ArtefactError):
            packify.load(sharded, model=conv.model)
    _index(sharded, metadata={"sha256": digests}, weight_map=places)
    packify.load(sharded, model=conv.model)


@pytest.mark.parametrize(("size", "count"), [(5, 5), ("5", 5), ("5KB", 5000), ("1.5 mb", 1_500_000), ("80GB", 80 * 10**9), ("1TB", 10**12)])
def test_sizes(size: int | str, count: int) -> None:
    assert checked_size(size) == count


@pytest.mark.parametrize("size", ["", "large", "5 apples", "-5GB", 0, -3, "0GB", True, None, float("nan")])
def test_what_is_no_size(size: Any, conv: sources.Reference, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="5GB"):
        packify.save(pack_small(conv), tmp_path / "net", max_shard_size=size)
    assert not (tmp_path / "net").exists()


_MEMORY = """
import sys, torch, packify
from torch import nn

def resident(kind):
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(kind))) * 1024

def network():
    return nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 8192), nn.ReLU(), nn.Linear(8192, 10))

with torch.device("meta"):
    model = network()
x = torch.empty(2, 64, device="meta")
packify.pack(model, x, alpha=2, num_estimators=4, average="probs")  # what a first call imports and keeps
import packify.artefact.loading, huggingface_hub
before = resident("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
packed = packify.load(sys.argv[1], model=model)
weights = sum(tensor.nbytes for tensor in packed.parameters())
loaded = resident("VmHWM") - before
for tensor in packed.parameters():
    tensor.detach().amax()  # each page is read
print(loaded / weights, (resident("VmHWM") - before) / weights)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process's memory is read from /proc")
@pytest.mark.parametrize("shard_size", ["5GB", "10MB"])
def test_peak_memory(tmp_path: Path, shard_size: str) -> None:
    model = nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 8192), nn.ReLU(), nn.Linear(8192, 10))
    packed = packify.pack(model, torch.randn(2, 64), alpha=2, num_estimators=4, average="probs")
    packify.save(packed, tmp_path / "net", max_shard_size=shard_size)
    done = subprocess.run([sys.executable, "-c", _MEMORY, str(tmp_path / "net")], capture_output=True, text=True, check=True)
    loaded, used = map(float, done.stdout.split())
    assert loaded < 0.2  # files are mapped: nothing is read before it is used
    assert used < 1.1
