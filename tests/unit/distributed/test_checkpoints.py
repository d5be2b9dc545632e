from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import packify
from packify.core.errors import ArtefactError
from packify.distributed import checkpoints
from packify.distributed.checkpoints import Saving, checked, tensors_in
from tests.unit.distributed.processes import OPTIONS, Net, adam, mesh_of, on_processes, recording, steps, whole


def _ensemble(member: int, copies: int, wrap: Any, seed: int) -> Any:
    return packify.distribute(recording(), mesh_of(member, copies), wrap=wrap, seed=seed, **OPTIONS).train()


def _saved(rank: int, folder: Path, member: int, copies: int, wrap: str, asynchronous: bool) -> None:
    ensemble = _ensemble(member, copies, wrap, 3)
    optimizer = adam(ensemble.packed)
    steps(ensemble, ensemble.packed, optimizer, slice(None), 3)
    saving = packify.save_checkpoint(ensemble, folder / "checkpoint", optimizer, {"epoch": 7}, asynchronous=asynchronous)
    assert saving.wait() == folder / "checkpoint"
    assert not (folder / ".checkpoint.part").exists()


def _resumed(rank: int, folder: Path, member: int, copies: int, wrap: str) -> None:
    """Another number of processes goes on where those had stopped: the weights are those of a run that never stopped."""
    ensemble = _ensemble(member, copies, wrap, 99)
    optimizer = adam(ensemble.packed)
    assert packify.load_checkpoint(ensemble, folder / "checkpoint", optimizer) == {"epoch": 7}
    steps(ensemble, ensemble.packed, optimizer, slice(None), 2)
    packify.save_checkpoint(ensemble, folder / "later")


def _check_whole(folder: Path) -> None:
    wanted, _ = whole()
    model = Net().double()
    packify.consolidate(folder / "later", folder / "net", model=model)
    found = packify.load(folder / "net", model=model)
    assert found.training
    torch.testing.assert_close(found.state_dict(), wanted.state_dict(), rtol=1e-9, atol=1e-11)
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(found.eval()(x), wanted.eval()(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("saver", "reader", "asynchronous"),
    [((4, 1, "ddp"), (2, 1, "ddp"), False), ((2, 2, "fsdp"), (1, 2, "fsdp"), False), ((2, 1, "ddp"), (1, 1, "ddp"), True)],
)
def test_other_numbers_of_processes_go_on(tmp_path: Path, saver: Any, reader: Any, asynchronous: bool) -> None:
    on_processes(_saved, tmp_path, saver[0] * saver[1], *saver, asynchronous)
    on_processes(_resumed, tmp_path, reader[0] * reader[1], *reader)
    _check_whole(tmp_path)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ArtefactError, match="no checkpoint"):
            checked(folder)
        with pytest.raises(ArtefactError, match="no checkpoint"):
            packify.consolidate(folder, tmp_path / "net")


def test_killed_while_a_checkpoint_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two renames the one before is found, and the next save removes it."""
    monkeypatch.setattr(checkpoints.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(checkpoints.dist, "barrier", lambda: None)
    target, part = tmp_path / "last", tmp_path / ".last.part"
    rename, done = Path.rename, []

    def killed(self: Path, to: Path) -> Path:
        if self == part and len(done) == 1:
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", killed)
    for number in range(3):
        part.mkdir(exist_ok=True)
        (part / ".metadata").write_text(f"{number}")
        try:
            Saving(None, part, target).wait()
        except KeyboardInterrupt:
            assert number == 1
            assert not target.exists()
        done.append(number)
        assert (checked(target) / ".metadata").read_text() == ("0" if number == 1 else f"{number}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]


def test_damaged_checkpoints(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(b"no table of contents")
    with pytest.raises(ArtefactError, match="damaged"):
        tensors_in(tmp_path)
    ensemble: Any = None  # it is not looked at
    for text in (None, "{", "[]", "{}", '{"extra": 3, "groups": []}', '{"extra": {}, "groups": [1]}'):
        if text is not None:
            (tmp_path / "extra.json").write_text(text)
        with pytest.raises(ArtefactError, match=r"extra\.json"):
            packify.load_checkpoint(ensemble, tmp_path)
