"""The data that `train.py` knows: folders of images, torchvision's data sets by name, scikit-learn's digits, and generated images."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset
from torchvision import datasets as torchvision_datasets
from torchvision.transforms import v2

from packify import DataError
from packify.sources.images import labelled_images

_TEST_FOLDERS = ("val", "test", "validation")


@dataclass(frozen=True)
class Data:
    """Images ``"c h w"`` with labels: to train on, with random changes, and to test on.

    Attributes:
        train, test: data sets of image and label.
        classes: how many there are.
    """

    train: Dataset[Any]
    test: Dataset[Any]
    classes: int


class Augmented(Dataset[Any]):
    """A data set whose images are changed at random each time they are read."""

    def __init__(self, data: Any, change: Callable[[Tensor], Tensor]) -> None:
        self.data, self.change = data, change

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.data[index]
        return self.change(image), label


def open_data(name: str, size: tuple[int, ...], root: Path = Path("data"), download: bool = False, **normalisation: Any) -> Data:
    """The data called `name`.

    Args:
        name: a folder with `train/CLASS/image.png` and `val/CLASS/image.png`; ``"digits"`` (scikit-learn's) or ``"generated"``; or the
            name of a torchvision data set, such as ``"CIFAR10"``.
        size: channels, height and width that the network takes.
        root: where torchvision's data sets are.
        download: fetch them.
        normalisation: ``mean`` and ``std`` for folders; by default ImageNet's.

    Raises:
        DataError, SourceError: there is no such data, or it has another form.
    """
    if len(size) != 3:
        raise DataError(
            "--input-size", found="x".join(map(str, size)), why="the data is images", fix="pass for example --input-size 3x32x32"
        )
    if name == "digits":
        return _digits(size)
    if name == "generated":
        return _generated(size)
    known = {each.lower(): getattr(torchvision_datasets, each) for each in torchvision_datasets.__all__}
    if name.lower() in known:
        return _of_torchvision(known[name.lower()], size, root, download)
    if Path(name).is_dir():
        return _folder(Path(name), size, normalisation)
    raise DataError(
        f"--data {name}",
        found="neither a folder nor the name of a data set",
        why="data is a folder with train/ and val/, digits, generated, or one of torchvision's data sets",
        fix="check the path, or pass for example --data CIFAR10",
    )


def _folder(folder: Path, size: tuple[int, ...], normalisation: dict[str, Any]) -> Data:
    held_out = next((folder / each for each in _TEST_FOLDERS if (folder / each).is_dir()), None)
    if held_out is None or not (folder / "train").is_dir():
        raise DataError(
            f"--data {folder}",
            found=f"the folders {', '.join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or '(none)'}",
            why="it is trained on train/CLASS/image.png and tested on val/CLASS/image.png",
            fix=f"name them {folder}/train and {folder}/val",
        )
    channels, height, width = size
    larger = (channels, height * 8 // 7, width * 8 // 7)  # what is cut from is a little larger than what is cut out
    train = labelled_images(folder / "train", larger, **normalisation)
    test = labelled_images(held_out, size, classes=train.classes, **normalisation)
    change = v2.Compose([v2.RandomResizedCrop((height, width), scale=(0.25, 1.0), antialias=True), v2.RandomHorizontalFlip()])
    return Data(Augmented(train, change), test, len(train.classes))


def _of_torchvision(kind: Any, size: tuple[int, ...], root: Path, download: bool) -> Data:
    channels, height, width = size
    transform = v2.Compose(
        [
            v2.Grayscale(channels) if channels == 1 else v2.RGB(),
            v2.PILToTensor(),
            v2.Resize((height, width), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * channels, [0.25] * channels),
        ]
    )
    takes = inspect.signature(kind).parameters
    parts: list[dict[str, Any]] = (
        [{"train": True}, {"train": False}] if "train" in takes else [{"split": "train"}, {"split": "test"}] if "split" in takes else []
    )
    if not parts:
        raise DataError(f"--data {kind.__name__}", found="no train and test part", why="both are needed", fix="choose another data set")
    try:
        train, test = (kind(root, transform=transform, **{"download": download} if "download" in takes else {}, **part) for part in parts)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise DataError(
            f"--data {kind.__name__}",
            found=f"{type(error).__name__}: {error}"[:200],
            why=f"it cannot be read below {root}",
            fix="pass --download, or --root with the folder that holds it",
        ) from error
    labels = next((getattr(train, each) for each in ("targets", "labels", "_labels") if hasattr(train, each)), None)
    if labels is None:
        raise DataError(f"--data {kind.__name__}", found="no labels", why="it is no data set of classes", fix="choose another data set")
    pad = max(1, height // 8)
    change: list[Any] = [v2.RandomCrop((height, width), padding=pad, padding_mode="reflect")]
    if kind.__name__ in ("CIFAR10", "CIFAR100", "STL10", "Imagenette"):  # a digit or a sign is another one in the mirror
        change.append(v2.RandomHorizontalFlip())
    return Data(Augmented(train, v2.Compose(change)), test, int(torch.as_tensor(labels).max()) + 1)


def _digits(size: tuple[int, ...]) -> Data:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    images = F.interpolate(images, size[1:], mode="bilinear", antialias=True).repeat(1, size[0], 1, 1)
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1297], order[1297:]
    return Data(TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test]), 10)


def _generated(size: tuple[int, ...], classes: int = 4, samples: int = 384) -> Data:
    """Noise around one picture per class."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(classes, *size, generator=generator)
    labels = torch.randint(classes, (samples,), generator=generator)
    images = pictures[labels] + 1.5 * torch.randn(samples, *size, generator=generator)
    cut = samples * 2 // 3
    return Data(TensorDataset(images[:cut], labels[:cut]), TensorDataset(images[cut:], labels[cut:]), classes)


def train_loader(data: Any, batch_size: int, workers: int, seed: int, rank: int, world: int) -> DataLoader[Any]:
    """Batches of process `rank` of `world`; without a last smaller one, where there are others."""
    sampler: Any = DistributedSampler(data, world, rank, seed=seed)
    pin = torch.cuda.is_available()
    return DataLoader(data, batch_size, sampler=sampler, num_workers=workers, drop_last=len(sampler) > batch_size, pin_memory=pin)


def start_epoch(loader: DataLoader[Any], seed: int, epoch: int, rank: int) -> None:
    """Order and chance of an epoch depend on these three alone, so that nothing of them need be in a checkpoint."""
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed} {epoch} {rank}".encode()).digest()[:7], "big"))
