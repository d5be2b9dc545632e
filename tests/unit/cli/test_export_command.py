from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.unit.cli.commands import check_refused, document, run


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < (2, 12), reason="export in torch 2.11 cannot prove that members and batch are merged for any batch")
def test_a_file(converted: Path) -> None:
    found = document("export", str(converted), "--to", "pt2", "--model", "nets.py:conv", "--outputs", "mean,members")
    assert found["path"] == f"{converted}.pt2"
    assert found["outputs"].keys() == {"members", "mean"}
    assert [one["batch"] for one in found["comparisons"]] == [1, 2, 5]
    assert torch.export.load(found["path"]).module()(torch.randn(3, 3, 8, 8))["mean"].shape == (3, 5)
    check_refused(("export", str(converted), "--to", "pt2", "--model", "nets.py:conv"), 1, "--force")


@pytest.mark.slow
def test_fused_and_in_turn(converted: Path) -> None:
    options = ("--to", "pt2", "--model", "nets.py:conv", "--batch", "2", "--no-check", "--fuse", "--strategy", "in turn")
    assert document("export", str(converted), *options)["strategy"] == "in turn"


@pytest.mark.slow
def test_the_report(converted: Path) -> None:
    options = ("--to", "pt2", "--model", "nets.py:conv", "--batch", "2")
    result = run("export", str(converted), *options, "--out", "net.pt2")
    assert result.exit_code == 0, result.output
    assert "input0" in result.stdout
    assert "epistemic" in result.stdout
    assert run("export", str(converted), *options, "--out", "net.pt2", "--force", "--quiet").stdout.strip() == "net.pt2"
    check_refused(("export", str(converted), "--to", "pt2", "--batch", "many"), 2, "--batch")
    check_refused(("export", str(converted), "--to", "pt2", "--model", "nets.py:conv", "--opset", "20"), 2, "18 to 23")
    check_refused(("export", str(converted), "--to", "pt2", "--model", "nets.py:conv", "--strategy", "sideways"), 2, "strategy")
    check_refused(("export", str(converted), "--to", "pt2", "--model", "nets.py:conv", "--outputs", "spread"), 2, "outputs")
