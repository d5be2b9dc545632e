"""The comparison of the paper's methods runs, and its table and picture have all six."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples import example

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")


@pytest.mark.slow
def test_all_methods_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = example("compare_methods")
    module.main(["--quick", "--out", str(tmp_path / "methods")])
    printed = capsys.readouterr().out
    for name in ("Single", "BatchEnsemble", "MIMO", "Masksembles", "Packed-Ensembles", "Deep Ensembles"):
        assert printed.count(f"| {name} |") == 2
    assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")
