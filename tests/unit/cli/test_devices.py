from __future__ import annotations

from tests.unit.cli.commands import check_refused, document, run

_OPTIONS = ("budget", "nets.py:Mlp", "--alpha", "2", "--M", "4")


def test_a_mesh(project: object) -> None:
    whole = document(*_OPTIONS)
    found = document(*_OPTIONS, "--mesh", "member=4,data=2", "--gpu-memory", "1MB", "--batch", "64")["device"]
    assert found["members"] == 1
    assert found["gradient_bytes"] == whole["packed"]["param_bytes"] // 4
    assert found["optimizer_bytes"] == 2 * found["gradient_bytes"]
    assert found["fits"] == "side by side"
    assert found["traffic"][-1] == {"axis": "member", "when": "inference", "collective": "all-gather", "payload_bytes": 4 * 32 * 3 * 4}
    assert "device" not in whole


def test_the_table(project: object) -> None:
    result = run(*_OPTIONS, "--mesh", "member=2,data=2", "--parallel", "fsdp", "--gpu-memory", "1KB", "--batch", "64")
    assert result.exit_code == 0, result.output
    assert "each of 4 devices" in result.stdout
    assert "nothing is sent" in result.stdout
    assert "reduce-scatter" in result.stdout


def test_wrong_meshes(project: object) -> None:
    check_refused((*_OPTIONS, "--mesh", "member=3"), 2, "member=3")
    check_refused((*_OPTIONS, "--mesh", "four"), 2, "member=4,data=8")
    check_refused((*_OPTIONS, "--mesh", "member=2", "--gpu-memory", "much"), 2, "--gpu-memory 80GB")
