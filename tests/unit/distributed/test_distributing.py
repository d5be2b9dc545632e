from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode

import packify
from packify.budgets.devices import plan
from packify.core.errors import SpecError
from tests.unit.distributed.processes import MEMBERS, OPTIONS, adam, data, mesh_of, on_processes, recording, steps, whole


def _equal_to_one_process(rank: int, folder: Path, member: int, copies: int, wrap: Any) -> None:
    """Initial weights, weights after five steps, predictions and members are those of one process."""
    mesh = mesh_of(member, copies)
    ensemble = packify.distribute(recording(), mesh, wrap=wrap, seed=3, **OPTIONS).train()
    place = ensemble.placement
    assert ensemble.packed.num_estimators == MEMBERS // member
    fresh = recording().pack(**OPTIONS, seed=3)
    _same_rows(ensemble.packed, fresh, place, exactly=True)
    share = len(data()[1]) // copies
    column = mesh["data"].get_local_rank()
    steps(ensemble, ensemble.packed, adam(ensemble.packed), slice(column * share, (column + 1) * share))
    wanted, _ = whole()
    _same_rows(ensemble.packed, wanted, place, exactly=False)
    x, _ = data()
    ensemble.eval(), wanted.eval()
    with CommDebugMode() as sent, torch.no_grad():
        found = ensemble(x)
    torch.testing.assert_close(found, wanted(x), rtol=1e-9, atol=1e-11)
    if wrap == "ddp":
        assert sent.get_total_counts() <= 1  # one reduction at inference
    torch.testing.assert_close(ensemble.members(x), wanted.members(x), rtol=1e-9, atol=1e-11)


def _same_rows(packed: nn.Module, wanted: nn.Module, place: Any, exactly: bool) -> None:
    theirs = wanted.state_dict()
    for name, value in packed.state_dict().items():
        own = value.full_tensor() if isinstance(value, DTensor) else value
        rows = theirs[name].chunk(place.num_estimators)[place.members.start : place.members.stop]
        torch.testing.assert_close(own, torch.cat(rows), rtol=0 if exactly else 1e-9, atol=0 if exactly else 1e-11, msg=name)


@pytest.mark.slow
def test_two_processes_of_members(tmp_path: Path) -> None:
    on_processes(_equal_to_one_process, tmp_path, 2, 2, 1, "ddp")


@pytest.mark.slow
@pytest.mark.parametrize(("member", "copies", "wrap"), [(1, 2, "ddp"), (1, 2, "fsdp"), (2, 2, "ddp"), (2, 2, "fsdp"), (4, 1, "ddp")])
def test_members_and_data(tmp_path: Path, member: int, copies: int, wrap: str) -> None:
    on_processes(_equal_to_one_process, tmp_path, member * copies, member, copies, wrap)


def _each_at_its_own_pace(rank: int, folder: Path) -> None:
    """One process takes three steps more than the other: were there any communication between members, both would wait for ever."""
    ensemble = packify.distribute(recording(), mesh_of(2, 1), seed=3, **OPTIONS).train()
    with CommDebugMode() as sent:
        steps(ensemble, ensemble.packed, adam(ensemble.packed), slice(None), 2 + 3 * rank)
        packify.clip_grad_norm_(ensemble.packed, 1.0)
    assert sent.get_total_counts() == 0
    dist.barrier()


@pytest.mark.slow
def test_members_do_not_communicate_in_training(tmp_path: Path) -> None:
    on_processes(_each_at_its_own_pace, tmp_path, 2)


def _parts_of_a_packed_network(rank: int, folder: Path) -> None:
    wanted, _ = whole()
    ensemble = packify.distribute(wanted, mesh_of(2, 1))
    _same_rows(ensemble.packed, wanted, ensemble.placement, exactly=True)
    for options, says in (({"alpha": 2}, "takes none"), ({"wrap": "dp"}, "DDP or FSDP2")):
        with pytest.raises(SpecError, match=says):
            packify.distribute(wanted, mesh_of(2, 1), **options)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"choose member among \[1, 3\]"):
        packify.distribute(recording(), mesh_of(2, 1), alpha=2, num_estimators=3)
    with pytest.raises(SpecError, match="ranked together"):
        packify.distribute(recording(), mesh_of(2, 1), **OPTIONS, weights="inherit")
    with pytest.raises(SpecError, match="alpha="):
        packify.distribute(recording(), mesh_of(2, 1), alpha=2)


@pytest.mark.slow
def test_a_packed_network_and_wrong_arguments(tmp_path: Path) -> None:
    on_processes(_parts_of_a_packed_network, tmp_path, 2)


def _bytes_of_a_step(rank: int, folder: Path, member: int, copies: int) -> None:
    """What a device holds and sends in a real step is what the plan says."""
    own = recording().budget(alpha=2 / member, num_estimators=MEMBERS // member)
    planned = plan(own.packed, own.member, {"member": member, "data": copies}, MEMBERS // member, batch=8)
    ensemble = packify.distribute(recording(), mesh_of(member, copies), **OPTIONS).train()
    packed, sent = ensemble.packed, []

    def counted(state, bucket):  # torch compares annotations, which are strings in this file
        sent.append(bucket.buffer().nbytes)
        return default_hooks.allreduce_hook(state, bucket)

    if copies > 1:
        ensemble.runs.register_comm_hook(ensemble.mesh["data"].get_group(), counted)
    optimizer = adam(packed)
    steps(ensemble, packed, optimizer, slice(None), 1)
    held = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    assert sum(tensor.nbytes for tensor in (*packed.parameters(), *packed.buffers())) == planned.weight_bytes
    assert sum(parameter.grad.nbytes for parameter in packed.parameters() if parameter.grad is not None) == planned.gradient_bytes
    assert sum(value.nbytes for value in held) == planned.optimizer_bytes
    wanted = [one.payload_bytes for one in planned.traffic if one.axis == "data"]
    assert ([sum(sent)] if sent else []) == wanted
    dist.barrier()


@pytest.mark.slow
@pytest.mark.parametrize(("member", "copies"), [(2, 1), (1, 2), (2, 2)])
def test_a_plan_is_what_a_step_takes(tmp_path: Path, member: int, copies: int) -> None:
    on_processes(_bytes_of_a_step, tmp_path, member * copies, member, copies)


_DIES = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch, torch.distributed as dist
import packify
from tests.unit.distributed.processes import OPTIONS, adam, mesh_of, recording, steps
dist.init_process_group("gloo")
members = int(sys.argv[3])
ensemble = packify.distribute(recording(), mesh_of(2, 1), **{**OPTIONS, "num_estimators": members}).train()
steps(ensemble, ensemble.packed, adam(ensemble.packed), slice(None), 2)
if dist.get_rank() == 1:
    with open(sys.argv[2], "w") as file:
        file.write(str(time.time()))
    os.kill(os.getpid(), signal.SIGKILL)
ensemble.eval()(torch.zeros(2, 1, 4, 4, dtype=torch.float64))
time.sleep(600)
"""


@pytest.mark.slow
def test_a_process_that_dies_ends_all(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(_DIES)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [str(tmp_path / "dies.py"), str(Path(__file__).parents[3]), str(tmp_path / "when")]
    done = subprocess.run([*torchrun, *script, "4"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert time.time() - float((tmp_path / "when").read_text()) < 30
    assert "SIGKILL" in done.stderr or "Signal 9" in done.stderr
    done = subprocess.run([*torchrun, *script, "3"], capture_output=True, text=True, timeout=300, check=False)  # M is odd
    assert done.returncode != 0
    assert "choose member among [1, 3]" in done.stderr
