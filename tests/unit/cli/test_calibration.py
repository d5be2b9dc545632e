"""The temperature of `packify evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import packify
from tests.unit.cli.commands import run


def test_the_temperature_of_the_artefact_is_applied(artefact: tuple[str, ...], folders: dict[str, str]) -> None:
    command = (*artefact, "--data", folders["data"])
    plain, warm = (json.loads(run(*command, "--json", *more).stdout) for more in ((), ("--temperature", "3")))
    packify.save_calibration(artefact[1], packify.Calibration(packify.TemperatureScaling(3.0)))
    own = json.loads(run(*command, "--json").stdout)
    assert (plain["temperature"], own["temperature"]) == (1.0, 3.0)
    assert own["evaluation"] == warm["evaluation"] != plain["evaluation"]
    assert json.loads(run(*command, "--json", "--temperature", "1").stdout)["evaluation"] == plain["evaluation"]
    assert "divided by the temperature 3" in run(*command).stdout


def test_a_temperature_is_fitted_and_saved(artefact: tuple[str, ...], folders: dict[str, str], tmp_path: Path) -> None:
    document = json.loads(run(*artefact, "--data", folders["data"], "--calibrate", folders["shift"], "--json").stdout)
    saved = packify.load_calibration(artefact[1]).temperature
    assert saved is not None
    assert document["temperature"] == saved.temperature != 1
    assert saved.samples == 10
    assert json.loads(run(*artefact, "--data", folders["data"], "--json").stdout)["evaluation"] == document["evaluation"]
    for options, says in ((("--temperature", "2"), "leave one of them out"), (("--calibrate", "none"), "no such folder")):
        result = run(*artefact, "--data", folders["data"], "--calibrate", folders["shift"], *options)
        assert result.exit_code == 2
        assert says in result.stderr
    member = run(artefact[0], str(tmp_path / "member"), *artefact[2:], "--data", folders["data"], "--calibrate", folders["shift"])
    assert member.exit_code == 1
    assert "member 1 alone" in member.stderr
