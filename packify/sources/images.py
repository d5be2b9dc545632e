"""Folders of images as data sets: one folder per class for labelled images, any images below a folder for unlabelled ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from packify.core.errors import SourceError, SpecError

# ImageNet's, as nearly all published weights were trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MODES = {1: "L", 3: "RGB"}


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Image files with labels, as normalised tensors ``"c h w"``.

    An image is scaled until it covers the size, its middle is cut out, and its values, from 0 to 1, become (value - mean) / std.

    Args:
        files: paths.
        labels: one per file; -1 where there is none.
        classes: names, by label.
        size: channels (1 or 3), height and width in pixels.
        mean: one number per channel, or one for all; by default ImageNet's for 3 channels, 0.5 for one.
        std: likewise.

    Raises:
        SpecError: the size is not that of an image, or a mean or std does not fit it.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[int],
        classes: Sequence[str],
        size: Sequence[int],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if len(size) != 3 or size[0] not in _MODES or min(size) < 1:
            raise SpecError(
                "input size",
                found="x".join(map(str, size)),
                why="an image has 1 or 3 channels, a height and a width",
                fix="pass for example --input-size 3x224x224",
            )
        self.files, self.labels, self.classes, self.size = list(files), list(labels), tuple(classes), tuple(size)
        self.mean = _per_channel("mean", mean, size[0], MEAN if size[0] == len(MEAN) else (0.5,))
        self.std = _per_channel("std", std, size[0], STD if size[0] == len(STD) else (0.5,))
        if min(self.std) <= 0:
            raise SpecError("std", found=str(self.std), why="values are divided by it", fix="pass positive numbers")
        self._to_tensor = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(self.mean, self.std)])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image ``"c h w"`` and its label.

        Raises:
            SourceError: the file is no image that can be read.
        """
        try:
            with Image.open(self.files[index]) as image:
                values: Tensor = self._to_tensor(_covering(image.convert(_MODES[self.size[0]]), *self.size[1:]))
        except (OSError, ValueError, SyntaxError) as error:
            raise SourceError(
                str(self.files[index]),
                found=f"{type(error).__name__}: {error}"[:300],
                why="it has the name of an image and cannot be read as one",
                fix="take the file away, or get a fresh copy",
            ) from error
        return values, self.labels[index]


def labelled_images(folder: str | Path, size: Sequence[int], *, classes: Sequence[str] | None = None, **options: Any) -> ImageFiles:
    """The images of a folder that holds one folder per class.

    Args:
        folder: ``folder/CLASS/**/image.png``. Classes are numbered from 0 in the order of their sorted names; an empty folder counts.
        size: channels, height and width.
        classes: the names to number by, for a second folder of the same classes of which some may be missing.
        options: ``mean`` and ``std``, see `ImageFiles`.

    Raises:
        SourceError: there is no such folder, no image in it, images outside class folders only, or a class that is not in `classes`.
        SpecError: the size, mean or std cannot be.
    """
    root = _folder(folder)
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = list(classes) if classes is not None else found
    unknown = [name for name in found if name not in names]
    if unknown:
        raise SourceError(
            str(root),
            found=f"the class folders {', '.join(unknown[:5])}",
            why=f"the classes are {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}",
            fix="name the folders as in --data, or take those away that are not among its classes",
        )
    files = [(path, names.index(name)) for name in found for path in _images_below(root / name)]
    if not files:
        why = "labels are the names of the folders that hold the images: FOLDER/CLASS/image.png"
        raise _no_images(root, why, "pass the folder that holds the folders of the classes")
    return ImageFiles([path for path, _ in files], [label for _, label in files], names, size, **options)


def unlabelled_images(folder: str | Path, size: Sequence[int], **options: Any) -> ImageFiles:
    """All images below a folder, in whatever folders.

    Args:
        folder: ``folder/**/image.png``.
        size: channels, height and width.
        options: ``mean`` and ``std``, see `ImageFiles`.

    Raises:
        SourceError: there is no such folder, or no image in it.
        SpecError: the size, mean or std cannot be.
    """
    root = _folder(folder)
    files = _images_below(root)
    if not files:
        raise _no_images(root, f"images are files that end in {', '.join(IMG_EXTENSIONS)}", "pass a folder that holds images")
    return ImageFiles(files, [-1] * len(files), (), size, **options)


def _covering(image: Image.Image, height: int, width: int) -> Image.Image:
    """The middle of an image, scaled so that it just covers the size."""
    scale = max(height / image.height, width / image.width)
    box = (width / scale, height / scale)
    left, top = (image.width - box[0]) / 2, (image.height - box[1]) / 2
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR, (left, top, left + box[0], top + box[1]))


def _per_channel(name: str, given: Sequence[float] | None, channels: int, default: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(value) for value in (default if given is None else given))
    values = values * channels if len(values) == 1 else values
    if len(values) != channels or not all(map(math.isfinite, values)):
        raise SpecError(
            name,
            found=str(tuple(given or ())),
            why=f"it is one number for all channels, or one for each of {channels}",
            fix=f"pass for example --{name} {','.join(['0.5'] * channels)}",
        )
    return values


def _folder(folder: str | Path) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise SourceError(
            str(folder),
            found="no such folder" if not path.exists() else "a file",
            why="images are read from a folder",
            fix="check the path",
        )
    return path


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())


def _no_images(folder: Path, why: str, fix: str) -> SourceError:
    return SourceError(str(folder), found="no images", why=why, fix=fix)
