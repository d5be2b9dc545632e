from __future__ import annotations

from pathlib import Path

import torch

import packify
from packify import sources
from tests.unit.cli.commands import run


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
