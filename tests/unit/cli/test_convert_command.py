"""The commands over a small project of a user's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import packify
from packify import artefact, sources
from tests.unit.cli.commands import run


def test_the_report(project: Path) -> None:
    result = run("convert", "nets.py:conv", "--alpha", "2", "--M", "4", "--gamma", "2", "--min-channels-per-group", "4")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for part in ("alpha 2, M 4, gamma 2", "one member", "parameters", "Mult-Adds", "kB", "member widths", "conv-a2-M4-g2/"):
        assert part in result.stdout
    assert "\x1b[" not in result.stdout
    assert artefact.read_config("conv-a2-M4-g2").spec == packify.Spec(2, 4, 2, min_channels_per_group=4)


def test_one_json_document(project: Path) -> None:
    result = run("convert", "nets.py:conv", "--alpha", "2", "--M", "2", "--json", "--out", "there")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert document["artefact"] == "there"
    assert document["spec"]["num_estimators"] == 2
    packed = packify.load("there", model=sources.load_reference("nets.py:conv"))
    assert document["networks"]["packed"]["params"] == sum(parameter.numel() for parameter in packed.parameters())
    assert document["report"]["packed_params"] == document["networks"]["packed"]["params"]


def test_quiet_prints_the_path_alone(project: Path) -> None:
    result = run("convert", "nets.py:Mlp", "--alpha", "1.5", "--num-estimators", "3", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Mlp-a1.5-M3-g1\n", "")


def test_one_seed_gives_the_same_weights(project: Path) -> None:
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run("convert", "nets.py:conv", "--alpha", "2", "--M", "2", "--seed", seed, "--out", out, "-q").exit_code == 0
    digests = [artefact.read_config(out).weights_sha256 for out in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_an_existing_target_needs_force(project: Path, converted: Path) -> None:
    before = (converted / "config.json").read_text()
    refused = run("convert", "nets.py:conv", "--alpha", "2", "--M", "2", "--seed", "5")
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert (converted / "config.json").read_text() == before
    assert run("convert", "nets.py:conv", "--alpha", "2", "--M", "2", "--seed", "5", "--force", "-q").exit_code == 0
    assert (converted / "config.json").read_text() != before


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["nets.py:broken"], 2, 'raise ValueError("no such depth")'),
        (["nets.py:unsized"], 2, "--input-size"),
        (["nets.py:conv", "--input-size", "4x8x8"], 1, "example_inputs"),
        (["nets.py:Branching"], 1, "nets.py"),
        (["nets.py:Mlp", "--in-chans", "3"], 2, "--in-chans"),
    ],
)
def test_what_cannot_be_converted(project: Path, args: list[str], code: int, says: str) -> None:
    before = sorted(project.iterdir())
    result = run("convert", *args, "--alpha", "2", "--M", "2")
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert [path for path in sorted(project.iterdir()) if path.name != "__pycache__"] == [
        path for path in before if path.name != "__pycache__"
    ]


def _packify(*args: str, **environment: str) -> subprocess.Popen[str]:
    """A process that answers to signals, also where the tests themselves run behind nohup."""

    def answering() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    command, pipes = [sys.executable, "-m", "packify", *args], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, env=os.environ | environment, preexec_fn=answering)  # noqa: PLW1509


@pytest.mark.slow
def test_what_a_factory_prints_stays_out_of_the_document(project: Path) -> None:
    nets = project / "nets.py"
    nets.write_text("print('hello from the factory')\n" + nets.read_text())
    process = _packify("convert", "nets.py:Mlp", "--alpha", "2", "--M", "2", "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["artefact"]
    assert "hello from the factory" in err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_conversion_leaves_nothing(project: Path, number: signal.Signals, code: int) -> None:
    (project / "slow.py").write_text("import pathlib, time\ndef net():\n    pathlib.Path('started').touch()\n    time.sleep(60)\n")
    process = _packify("convert", "slow.py:net", "--alpha", "2", "--M", "2", "--input-size", "4")
    for _ in range(600):
        if (project / "started").exists():
            break
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ""
    assert "Traceback" not in err
    left: list[Any] = [path.name for path in project.iterdir() if "-a2-" in path.name]
    assert left == []
