from __future__ import annotations

import json
from pathlib import Path

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
