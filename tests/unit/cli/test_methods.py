"""The paper's other ensembles from the command line, over a small project of a user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import packify
from packify import sources
from tests.unit.cli.commands import check_refused, run


@pytest.mark.parametrize(
    ("method", "options", "kind"),
    [
        ("batch-ensemble", ("--norms", "member", "--layers", "!0"), "BatchEnsemble"),
        ("masksembles", ("--scale", "1.5", "--seed", "3"), "Masksembles"),
        ("mimo", ("--rho", "0.25", "--batch-repetitions", "2"), "Mimo"),
    ],
)
def test_a_network_is_converted_by_every_method(project: Path, method: str, options: tuple[str, ...], kind: str) -> None:
    result = run("convert", "nets.py:conv", "--method", method, "--M", "3", *options, "--out", "there", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["method"] == method
    assert document["spec"]["num_estimators"] == 3
    loaded = packify.load("there", model=sources.load_reference("nets.py:conv"))
    assert type(loaded).__name__ == kind
    assert document["report"]["params"] == sum(parameter.numel() for parameter in loaded.parameters())
    assert loaded.members(torch.randn(2, 3, 8, 8)).shape == (3, 2, 5)
    assert run("verify", "there", "--model", "nets.py:conv", "--quiet").exit_code == 0
    check_refused(("verify", "there", "--model", "nets.py:conv", "--signal"), 1, "--signal")
    assert run("card", "there", "--model", "nets.py:conv", "--quiet").exit_code == 0
    assert method in (project / "there" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["deep", "batch-ensemble", "masksembles", "mimo"])
def test_every_command_takes_every_method(project: Path, folders: dict[str, str], method: str) -> None:
    named = ("--model", "nets.py:conv")
    assert run("convert", "nets.py:conv", "--method", method, "--M", "3", "--out", "there", "--quiet").exit_code == 0
    for command in (
        ("evaluate", "there", "--data", folders["data"], "--ood", folders["ood"]),
        ("tune", "there", "--budget-s", "0.2", "--batch", "2"),
        ("export", "there", "--to", "pt2", "--out", "net.pt2"),
        ("card", "there"),
    ):
        result = run(*command, *named, "--quiet")
        assert result.exit_code == 0, (command, result.output)
    alone = ("extract", "there", "--member", "1", "--out", "alone", *named)
    if method == "mimo":
        check_refused(alone, 1, "not separable")
    else:
        assert run(*alone).exit_code == 0


def test_the_report_says_what_holds_and_what_does_not(project: Path) -> None:
    result = run("convert", "nets.py:conv", "--method", "batch-ensemble")
    assert result.exit_code == 0, result.output
    for part in ("as a BatchEnsemble (M 4)", "of the reference", "not a law here", "conv-batch-ensemble-M4/"):
        assert part in " ".join(result.stdout.split())


def test_a_deep_ensemble_is_the_packed_network_of_whole_members(project: Path) -> None:
    result = run("convert", "nets.py:conv", "--method", "deep", "--M", "2", "--out", "there", "--quiet")
    assert result.exit_code == 0, result.output
    loaded = packify.load("there", model=sources.load_reference("nets.py:conv"))
    assert loaded.spec == packify.Spec(2, 2)
    assert loaded.strategy == "in turn"


def test_a_deep_ensemble_of_checkpoints_has_as_many_members_as_there_are(project: Path) -> None:
    torch.save(sources.load_reference("nets.py:conv").state_dict(), project / "a.pth")
    result = run(
        "convert", "nets.py:conv", "--method", "deep", "--members", "a.pth,a.pth,a.pth", "--out", "there", "--quiet", "--no-verify"
    )
    assert result.exit_code == 0, result.output
    assert packify.load("there", model=sources.load_reference("nets.py:conv")).spec == packify.Spec(3, 3)


@pytest.mark.slow
def test_all_methods_side_by_side(project: Path) -> None:
    command = ("budget", "nets.py:conv", "--method", "all")
    printed = run(*command)
    assert printed.exit_code == 0, printed.output
    names = ("Single", "BatchEnsemble", "MIMO", "Masksembles", "Packed-Ensembles", "Deep Ensembles")
    assert [line.split("  ")[0].strip() for line in printed.stdout.splitlines() if line.strip().startswith(names)] == list(names)
    found = json.loads(run(*command, "--json").stdout)
    assert found["deep_ensemble"]["params"] == 4 * found["reference"]["params"]
    assert found["batch_ensemble"]["mult_adds"] == 4 * found["reference"]["mult_adds"]
    assert found == json.loads(run(*command, "--alpha", "2", "--M", "4", "--json").stdout) | {"seconds": found["seconds"]}
    check_refused((*command, "--M", "1"), 2, "num_estimators")
    check_refused(("budget", "nets.py:conv"), 2, "--alpha and --M")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "mimo", "--rho", "1.5"), "rho"),
        (("--method", "masksembles", "--scale", "7"), "scale"),
        (("--method", "masksembles", "--rho", "0.5"), "--rho"),
        (("--method", "batch-ensemble", "--M", "1"), "num_estimators"),
        (("--method", "batch-ensemble", "--layers", "nothing"), "nothing"),
        (("--method", "batch-ensemble", "--alpha", "2"), "--alpha"),
        (("--method", "masksembles", "--gamma", "1"), "--gamma"),
        (("--method", "batch-ensemble", "--member-seeds", "same"), "--member-seeds"),
        (("--method", "mimo", "--members", "a.pth,b.pth"), "--members"),
        (("--method", "mimo", "--inputs", "shared"), "--inputs"),
        (("--method", "mimo", "--M", "1"), "num_estimators"),
        (("--method", "mimo", "--batch-repetitions", "0"), "batch_repetitions"),
        (("--method", "masksembles", "--M", "1"), "num_estimators"),
        (("--method", "deep", "--M", "1"), "num_estimators"),
        (("--method", "deep", "--gamma", "2"), "alpha = M = 4"),
        (("--method", "deep", "--alpha", "2", "--M", "4"), "alpha = M = 4"),
        (("--alpha", "2", "--M", "4", "--scale", "2"), "--scale"),
    ],
)
def test_wrong_settings_are_one_clear_message(project: Path, options: tuple[str, ...], says: str) -> None:
    check_refused(("convert", "nets.py:conv", *options), 2, says)


def test_layers_too_narrow_for_masks_are_one_clear_message(project: Path) -> None:
    narrow = ("convert", "nets.py:Mlp", "--method", "masksembles", "--arg", "hidden=8")
    check_refused(narrow, 2, "fewer than 10 channels: two (8)")
