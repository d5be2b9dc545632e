"""The comparison of the paper's methods runs, and its table and picture have all six."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.examples import example

# Not imported to find out: collecting the tests would take seconds more.
pytestmark = pytest.mark.skipif(not (find_spec("matplotlib") and find_spec("sklearn")), reason="needs matplotlib and scikit-learn")

METHODS = ("Single", "BatchEnsemble", "MIMO", "Masksembles", "Packed-Ensembles", "Deep Ensembles")


@pytest.mark.slow
def test_all_methods_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = example("compare_methods")
    given = ["--quick", "--jobs", "1", "--out", str(tmp_path / "methods")]
    module.main(given)
    printed = capsys.readouterr().out
    for name in METHODS:
        assert sum(line.startswith(f"| {name} ") for line in printed.splitlines()) == 3
    assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")
    kept = (tmp_path / "methods.jsonl").read_text().splitlines()
    (tmp_path / "methods.jsonl").write_text("\n".join(kept[:-1]) + "\n")  # as an interrupted run leaves it
    module.main(given)
    assert capsys.readouterr().out.count("CPU seconds, ") == 1
    again = (tmp_path / "methods.jsonl").read_text().splitlines()
    assert again[:-1] == kept[:-1]
    assert json.loads(again[-1])["figures"] == json.loads(kept[-1])["figures"]


@pytest.mark.slow
def test_images_are_split_by_class_and_noisy() -> None:
    images, labels, test, unseen = example("compare_methods").data(quick=False)
    assert labels.bincount().tolist() == [30] * 7
    assert sum(len(y) for _, y in test) + len(labels) + sum(len(y) for _, y in unseen) == 1797
    assert min(int(y.min()) for _, y in unseen) == 7
    seen = {image.numpy().tobytes() for image in images}
    assert len(seen) == len(images)
    assert not any(image.numpy().tobytes() in seen for x, _ in test for image in x)
