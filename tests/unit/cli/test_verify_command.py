from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.commands import run


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


def test_a_tampered_artefact(converted: Path) -> None:
    weights = converted / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    result = run("verify", str(converted), "--model", "nets.py:conv")
    assert result.exit_code == 1
    assert "truncated or changed" in result.stderr


_TWO = """
from torch import nn


class Two(nn.Module):
    input_size = (16,)

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(16, 256), nn.Linear(256, 64)
        nn.init.normal_(self.two.weight, std=0.1)

    def forward(self, x):
        features = self.one(x)
        return {"features": features, "out": self.two(features)}
"""


def test_signals_of_what_an_artefact_was_made_with(project: Path) -> None:
    """Fresh members have the widths of the saved ones: a free output is free again, and what reads it sums over half as many."""
    (project / "two.py").write_text(_TWO)
    options = ("--alpha", "1", "--M", "2", "--free-output", "features", "--no-verify", "-q", "--out", "free")
    assert run("convert", "two.py:Two", *options).exit_code == 0
    document = json.loads(run("verify", "free", "--model", "two.py:Two", "--signal", "--json").stdout)
    layers = {layer["name"]: layer["member"] / layer["reference"] for layer in document["signal"]["layers"]}
    assert 0.6 < layers["two"] < 0.8 < layers["one"] < 1.2


@pytest.mark.slow
def test_no_signals_of_members_of_full_width(project: Path) -> None:
    assert run("convert", "nets.py:conv", "--method", "batch-ensemble", "--M", "2", "--no-verify", "-q", "--out", "be").exit_code == 0
    refused = run("verify", "be", "--model", "nets.py:conv", "--signal")
    assert refused.exit_code == 1
    assert "as wide as the reference" in refused.stderr
