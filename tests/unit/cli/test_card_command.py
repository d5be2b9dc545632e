from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.artefact.hub_server import ask, running_hub
from tests.unit.cli.commands import check_refused, document, run


def test_a_card(converted: Path) -> None:
    found = document("card", str(converted), "--license", "mit", "--model", "nets.py:conv")
    assert found["card"] == str(converted / "README.md")
    assert found["pushed"] is None
    text = (converted / "README.md").read_text()
    assert "license: mit" in text
    assert "| packed |" in text
    check_refused(("card", str(converted)), 1, "--force")
    assert run("card", str(converted), "--force", "--quiet").stdout.strip() == str(converted / "README.md")


def test_an_evaluation(converted: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"artefact": "x", "evaluation": {"accuracy": 0.5, "nll": 1.25, "samples": 4}}))
    assert run("card", str(converted), "--evaluation", str(file), "--dataset", "mine").exit_code == 0
    assert "| mine | 4 | 0.5000 | 1.2500 |" in (converted / "README.md").read_text()
    file.write_text("{")
    check_refused(("card", str(converted), "--force", "--evaluation", str(file)), 2, "--evaluation")


def test_what_is_no_artefact(tmp_path: Path) -> None:
    check_refused(("card", str(tmp_path)), 1, "no artefact")
    assert list(tmp_path.iterdir()) == []


def test_published_and_used_from_the_hub(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub() as hub:
        ask(monkeypatch, hub.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        result = run("card", str(converted), "--push", "me/net", "--quiet")
        assert result.stdout.strip() == "hf-hub:me/net", result.output
        assert b"hf-hub:me/net" in hub.files["me/net"]["main"]["README.md"]
        found = document("extract", "hf-hub:me/net", "--member", "1", "--model", "nets.py:conv")
        assert Path(found["written"]).name == "net-member1"
        check_refused(("verify", "hf-hub:me/other"), 1, "no such repository")
