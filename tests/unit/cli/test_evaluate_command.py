"""`packify evaluate` on folders of tiny generated images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import packify
from packify import sources
from packify.cli import app
from tests.unit.cli.commands import check_refused


def run(*args: str) -> Result:
    return CliRunner().invoke(app, args)


@pytest.mark.slow
def test_everything(artefact: tuple[str, ...], folders: dict[str, str], tmp_path: Path) -> None:
    picture = tmp_path / "e.png"
    result = run(*artefact, "--data", folders["data"], "--ood", folders["ood"], "--shift", folders["shift"], "--plot", str(picture))
    assert result.exit_code == 0, result.output
    for text in ("15 images of 5 classes", "test: ensemble", "shift: member 2", "mutual information", "upper edges closed", "mean [0.485"):
        assert text in result.stdout
    assert result.stderr == f"written: {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_is_one_document_that_agrees_with_python(artefact: tuple[str, ...], folders: dict[str, str], nets: Path) -> None:
    result = run(
        *artefact, "--data", folders["data"], "--ood", folders["ood"], "--json", "--batch-size", "4", "--mean", "0.5", "--std", "0.5"
    )
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert document["data"] == {"images": 15, "classes": 5, "size": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3}
    from packify.evaluation import evaluate
    from packify.sources.images import labelled_images

    packed = packify.load(artefact[1], packify.load_reference(f"{nets}:conv"))
    images = labelled_images(folders["data"], (3, 8, 8), mean=[0.5], std=[0.5])
    found = evaluate(packed, torch.utils.data.DataLoader(images, batch_size=15))
    assert document["evaluation"]["accuracy"] == found.accuracy
    assert document["evaluation"]["nll"] == pytest.approx(found.nll, rel=1e-4)
    assert document["evaluation"]["ood"]["entropy"]["ood_samples"] == 10
    assert len(document["evaluation"]["members"]) == 3


def test_images_are_normalised_as_those_of_the_published_weights(folders: dict[str, str], nets: Path, tmp_path: Path) -> None:
    packed = packify.pack(packify.load_reference(f"{nets}:conv"), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=3).eval()
    source = sources.Source("file", f"{nets}:conv", {}, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    packify.save(packed, tmp_path / "published", source=source)
    command = ("evaluate", str(tmp_path / "published"), "--model", f"{nets}:conv", "--data", folders["data"], "--json")
    assert json.loads(run(*command).stdout)["data"] | {"size": 0} == {
        "images": 15,
        "classes": 5,
        "size": 0,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
    }
    assert json.loads(run(*command, "--mean", "0.5").stdout)["data"]["mean"] == [0.5] * 3


def test_a_single_member_and_quiet(artefact: tuple[str, ...], folders: dict[str, str], tmp_path: Path) -> None:
    command = (artefact[0], str(tmp_path / "member"), *artefact[2:])
    result = run(*command, "--data", folders["data"])
    assert result.exit_code == 0, result.output
    assert "ensemble  " not in result.stdout
    assert "disagreement 0" not in result.stdout
    quiet = run(*command, "--data", folders["data"], "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_networks_of_no_images(folders: dict[str, str], nets: Path, tmp_path: Path) -> None:
    for name, says in (("Tokens", "no floating-point numbers"), ("unsized", "shape (3,)")):
        model = packify.load_reference(f"{nets}:{name}") if name == "Tokens" else torch.nn.Linear(3, 2)
        x = torch.zeros(2, 5).long() if name == "Tokens" else torch.zeros(2, 3)
        packify.save(packify.pack(model, x, alpha=2, num_estimators=2, average="probs").eval(), tmp_path / name)
        check_refused(("evaluate", str(tmp_path / name), "--model", f"{nets}:{name}", "--data", folders["data"]), 2, says)


def test_networks_that_end_in_a_softmax(folders: dict[str, str], nets: Path, tmp_path: Path) -> None:
    nets.write_text(nets.read_text() + "\n\ndef soft():\n    return nn.Sequential(conv(), nn.Softmax(-1))\n")
    packed = packify.pack(packify.load_reference(f"{nets}:soft"), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2).eval()
    packify.save(packed, tmp_path / "soft")
    command = ("evaluate", str(tmp_path / "soft"), "--model", f"{nets}:soft", "--data", folders["data"], "--json")
    check_refused(command, 1, "--outputs probabilities")
    document = json.loads(run(*command, "--outputs", "probabilities", "--calibrate", folders["shift"]).stdout)
    from packify.sources.images import labelled_images

    images = labelled_images(folders["data"], (3, 8, 8))
    with torch.no_grad():
        p = packed.members(torch.stack([image for image, _ in images])).mean(0)
    labels = torch.tensor([label for _, label in images])
    scaled = (p.log() / document["temperature"]).log_softmax(-1)
    assert document["temperature"] != 1
    assert document["evaluation"]["nll"] == pytest.approx(torch.nn.functional.nll_loss(scaled, labels).item(), rel=1e-4)


@pytest.mark.slow_cases("--data empty--")
@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--data", "none"), 2, "no such folder"),
        (("--data", "empty"), 2, "no images"),
        (("--data", "data", "--ood", "empty"), 2, "no images"),
        (("--data", "data", "--shift", "none"), 2, "no such folder"),
        (("--data", "few"), 2, "2 class folders"),
        (("--data", "data", "--mean", "0.5,0.5"), 2, "for each of 3"),
        (("--data", "data", "--std", "a"), 2, "--std"),
        (("--data", "data", "--plot", "e.xyz"), 2, "png, pdf or svg"),
        (("--data", "data", "--plot", "nowhere/e.png"), 2, "mkdir -p nowhere"),
        (("--data", "data", "--input-size", "1x8x8"), 2, "input size 1x8x8"),
        (("--data", "data", "--device", "nowhere"), 2, "--device nowhere"),
        (("--data", "data", "--temperature", "0"), 2, "temperature"),
        (("--data", "data", "--input-size", "8x8"), 2, "input size"),
        (("--data", "broken"), 2, "0.png"),
        ((), 2, "--data"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes(
    artefact: tuple[str, ...],
    folders: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / "class0").mkdir(parents=True)
    for label in range(5):
        (tmp_path / "broken" / f"class{label}").mkdir(parents=True)
    (tmp_path / "broken" / "class0" / "0.png").write_bytes(b"nothing")
    for label in range(2):
        (tmp_path / "few" / f"class{label}").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "few" / f"class{label}" / "0.png")
    result = run(*artefact, *options)
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
