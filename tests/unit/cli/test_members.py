from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import packify
from packify import artefact, sources
from tests.unit.cli.commands import run


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


@pytest.mark.slow
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
