"""Folders of tiny generated images as data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from packify.core.errors import SourceError, SpecError
from packify.sources.images import MEAN, STD, labelled_images, unlabelled_images


def _image(path: Path, colour: tuple[int, int, int] = (255, 0, 0), size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _image(tmp_path / "b" / "one.png")
    _image(tmp_path / "a" / "deep" / "two.JPG")
    _image(tmp_path / "b" / "three.bmp")
    (tmp_path / "c").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_classes_are_sorted_folders_and_empty_ones_count(folder: Path) -> None:
    images = labelled_images(folder, (3, 4, 4))
    assert images.classes == ("a", "b", "c")
    assert sorted(images.labels) == [0, 1, 1]
    batch, labels = next(iter(DataLoader(images, batch_size=3)))
    assert batch.shape == (3, 3, 4, 4)
    assert labels.tolist() == images.labels


def test_values_are_normalised(folder: Path) -> None:
    red = labelled_images(folder, (3, 4, 4))[1][0]
    wanted = [(1 - MEAN[0]) / STD[0], -MEAN[1] / STD[1], -MEAN[2] / STD[2]]
    torch.testing.assert_close(red.mean((1, 2)), torch.tensor(wanted))
    plain = labelled_images(folder, (3, 4, 4), mean=[0], std=[1, 1, 1])[1][0]
    torch.testing.assert_close(plain.mean((1, 2)), torch.tensor([1.0, 0.0, 0.0]))
    grey = labelled_images(folder, (1, 5, 7), mean=[0.0], std=[1.0])[1][0]
    assert grey.shape == (1, 5, 7)
    assert grey.mean().item() == pytest.approx(76 / 255)  # the luminance of red


def test_the_middle_is_kept_in_its_proportions(tmp_path: Path) -> None:
    image = Image.new("RGB", (12, 4))
    image.paste((255, 255, 255), (4, 0, 8, 4))  # a white square in the middle of a black strip
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "strip.png")
    values = labelled_images(tmp_path, (3, 8, 8), mean=[0], std=[1])[0][0]
    assert values[:, 2:-2, 2:-2].min() == 1.0
    same = labelled_images(tmp_path, (3, 4, 12), mean=[0], std=[1])[0][0]
    assert same[0, 0].tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 4


def test_a_second_folder_is_numbered_by_the_first(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    _image(other / "b" / "x.png")
    assert labelled_images(other, (3, 4, 4), classes=("a", "b", "c")).labels == [1]
    with pytest.raises(SourceError, match="class folders b"):
        labelled_images(other, (3, 4, 4), classes=("a", "c"))


def test_unlabelled_images_are_anywhere(folder: Path) -> None:
    _image(folder / "lone.png")
    images = unlabelled_images(folder, (3, 4, 4))
    assert len(images) == 4
    assert images[0][1] == -1


@pytest.mark.parametrize("read", [labelled_images, unlabelled_images])
def test_folders_without_images(read: Any, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(SourceError, match="no images"):
        read(tmp_path, (3, 4, 4))
    with pytest.raises(SourceError, match="no such folder"):
        read(tmp_path / "none", (3, 4, 4))
    (tmp_path / "a" / "file.txt").write_text("")
    with pytest.raises(SourceError, match="a file"):
        read(tmp_path / "a" / "file.txt", (3, 4, 4))


def test_images_outside_class_folders_have_no_label(tmp_path: Path) -> None:
    _image(tmp_path / "lone.png")
    with pytest.raises(SourceError, match="FOLDER/CLASS"):
        labelled_images(tmp_path, (3, 4, 4))


def test_a_file_that_is_no_image_is_named(folder: Path) -> None:
    (folder / "a" / "broken.png").write_bytes(b"\x89PNG and nothing more")
    (folder / "a" / "cut.jpg").write_bytes((folder / "a" / "deep" / "two.JPG").read_bytes()[:200])
    images = labelled_images(folder, (3, 4, 4))
    for name in ("broken.png", "cut.jpg"):
        index = next(i for i, path in enumerate(images.files) if path.name == name)
        with pytest.raises(SourceError, match=name):
            images[index]


@pytest.mark.parametrize(
    ("size", "options", "says"),
    [
        ((4, 4), {}, "input size"),
        ((2, 4, 4), {}, "1 or 3 channels"),
        ((3, 0, 4), {}, "input size"),
        ((3, 4, 4), {"mean": [1, 2]}, "mean"),
        ((3, 4, 4), {"std": [0.0]}, "std"),
        ((3, 4, 4), {"std": [float("nan")]}, "std"),
        ((3, 4, 4), {"mean": []}, "mean"),
    ],
)
def test_sizes_and_numbers_that_cannot_be(folder: Path, size: tuple[int, ...], options: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        labelled_images(folder, size, **options)
