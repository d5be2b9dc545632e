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
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import packify
from packify import artefact, sources
from packify.cli import app


def run(*args: str) -> Result:
    return CliRunner().invoke(app, args)


@pytest.fixture
def project(nets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(nets.parent)
    return nets.parent


@pytest.fixture
def converted(project: Path) -> Path:
    assert run("convert", "nets.py:conv", "--alpha", "2", "--M", "2", "--quiet").exit_code == 0
    return project / "conv-a2-M2-g1"


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


def test_verify(converted: Path) -> None:
    result = run("verify", str(converted), "--model", "nets.py:conv")
    assert result.exit_code == 0, result.output
    assert str(converted) in result.stdout
    document = json.loads(run("verify", str(converted), "--model", "nets.py:conv", "--json").stdout)
    assert document["verification"]["equality"] < 1e-3
    refused = run("verify", str(converted))
    assert refused.exit_code == 1
    assert "--model nets.py:conv" in refused.stderr


def test_verify_reads_the_factorys_arguments_from_the_artefact(project: Path) -> None:
    assert (
        run(
            "convert", "nets.py:conv", "--alpha", "2", "--M", "2", "--arg", "width=48", "--num-classes", "3", "-q", "--out", "wide"
        ).exit_code
        == 0
    )
    assert run("verify", "wide", "--model", "nets.py:conv", "-q").exit_code == 0


def test_extract(converted: Path) -> None:
    result = run("extract", str(converted), "--member", "1", "--model", "nets.py:conv", "--out", "one")
    assert result.exit_code == 0, result.output
    reference = sources.load_reference("nets.py:conv")
    member = packify.load("one", model=reference)
    packed = packify.load(converted, model=reference)
    example = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(member.eval()(example), packed.eval().members(example)[1])
    assert run("verify", "one", "--model", "nets.py:conv").exit_code == 1
    for number in ("2", "-1"):
        outside = run("extract", str(converted), "--member", number, "--model", "nets.py:conv", "--out", "two")
        assert (outside.exit_code, Path("two").exists()) == (2, False)


def test_a_tampered_artefact(converted: Path) -> None:
    weights = converted / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    result = run("verify", str(converted), "--model", "nets.py:conv")
    assert result.exit_code == 1
    assert "truncated or changed" in result.stderr


def _packify(*args: str, **environment: str) -> subprocess.Popen[str]:
    """A process that answers to signals, also where the tests themselves run behind nohup."""

    def answering() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    command, pipes = [sys.executable, "-m", "packify", *args], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, env=os.environ | environment, preexec_fn=answering)  # noqa: PLW1509


def test_what_a_factory_prints_stays_out_of_the_document(project: Path) -> None:
    nets = project / "nets.py"
    nets.write_text("print('hello from the factory')\n" + nets.read_text())
    process = _packify("convert", "nets.py:Mlp", "--alpha", "2", "--M", "2", "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["artefact"]
    assert "hello from the factory" in err


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


def test_members_from_checkpoints(project: Path) -> None:
    networks = [sources.load_reference("nets.py:conv").eval() for _ in range(3)]
    torch.save(networks[0].state_dict(), "a.pth")
    torch.save({"state_dict": {f"module.{key}": value for key, value in networks[1].state_dict().items()}}, "b.pt")
    save_file(networks[2].state_dict(), "c.safetensors")
    result = run("convert", "nets.py:conv", "--members", "a.pth, b.pt,c.safetensors", "-q")
    assert (result.exit_code, result.stdout) == (0, "conv-a3-M3-g1\n"), result.output
    packed, x = packify.load("conv-a3-M3-g1", model=sources.load_reference("nets.py:conv")), torch.randn(2, 3, 8, 8)
    for member, network in enumerate(networks):
        torch.testing.assert_close(packed.members(x)[member], network(x))
    for options, says in (
        (["--alpha", "2"], "alpha = M = 3"),
        (["--M", "4"], "alpha = M = 3"),
        (["--gamma", "2"], "gamma = 1"),
        (["--weights", "inherit"], "checkpoints"),
        (["--pretrained"], "checkpoints"),
    ):
        refused = run("convert", "nets.py:conv", "--members", "a.pth,b.pt,c.safetensors", *options, "--out", "new")
        assert refused.exit_code == 2
        assert says in refused.stderr
    other = run("convert", "nets.py:conv", "--num-classes", "4", "--members", "a.pth,b.pt", "--out", "new")
    assert other.exit_code == 1
    assert "(5, 32)" in other.stderr
    assert "(4, 32)" in other.stderr
    assert not Path("new").exists()


def test_members_that_inherit(project: Path) -> None:
    Path("trained.py").write_text(
        "import torch\nfrom nets import conv\n\n\n"
        "def build():\n    torch.manual_seed(3)\n    return conv()\n\n\nbuild.input_size = (3, 8, 8)\n"
    )
    result = run("convert", "trained.py:build", "--alpha", "2", "--M", "2", "--weights", "inherit", "-q", "--out", "whole")
    assert result.exit_code == 0, result.output
    reference = sources.load_reference("trained.py:build").eval()
    packed, x = packify.load("whole", model=reference), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(packed.members(x)[1], reference(x))
    assert run("convert", "trained.py:build", "--alpha", "2", "--M", "2", "--member-seeds", "same", "-q", "--out", "same").exit_code == 0
    assert all(torch.equal(*tensor.chunk(2)) for tensor in packify.load("same", model=reference).parameters())
    refused = run("convert", "trained.py:build", "--alpha", "2", "--M", "2", "--pretrained")
    assert refused.exit_code == 2
    assert "timm" in refused.stderr


def test_published_weights(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    create = timm.create_model

    def fetched(name: str, pretrained: bool = False, **args: Any) -> torch.nn.Module:
        network = create(name, pretrained=False, **args)
        if pretrained:
            torch.nn.init.constant_(network.conv_stem.weight, 0.5)
        return network

    monkeypatch.setattr(timm, "create_model", fetched)
    options = ("--alpha", "2", "--M", "2", "--input-size", "3x32x32", "--num-classes", "3", "--no-verify", "-q")
    result = run("convert", "timm:mobilenetv3_small_050", "--pretrained", *options, "--out", "there")
    assert result.exit_code == 0, result.output
    packed = packify.load("there")
    assert bool((packed.conv_stem.weight == 0.5).all())
    source = artefact.read_config("there").source
    assert source is not None
    assert source.mean is not None
    assert source.std is not None
    assert len(source.mean) == len(source.std) == 3
    assert "pretrained" not in source.args
    contradiction = run("convert", "timm:mobilenetv3_small_050", "--pretrained", "--weights", "fresh", *options)
    assert contradiction.exit_code == 2

    def offline(name: str, pretrained: bool = False, **args: Any) -> torch.nn.Module:
        if pretrained:
            raise ConnectionError("no route")
        return create(name, **args)

    monkeypatch.setattr(timm, "create_model", offline)
    refused = run("convert", "timm:mobilenetv3_small_050", "--pretrained", *options, "--out", "new")
    assert refused.exit_code == 2
    assert "could not be fetched" in refused.stderr
    assert not Path("new").exists()
    assert "timm" in run("convert", "torchvision:resnet18", "--pretrained", *options).stderr
