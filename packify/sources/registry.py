"""What resolving asks of timm and of torchvision, so that neither is named anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Published:
    """A network with published weights, and how the images that they were trained on were normalised, per channel."""

    model: nn.Module
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


@dataclass(frozen=True)
class Wanted:
    """What the user asked of a reference beside its name; None where they said nothing."""

    num_classes: int | None = None
    in_chans: int | None = None
    input_size: tuple[int, ...] | None = None


class Registry(Protocol):
    """One library of named architectures."""

    def names(self) -> list[str]:
        """Every name, for suggestions."""

    def knows(self, name: str) -> bool:
        """Whether `build` accepts the name."""

    def arguments(self, name: str, wanted: Wanted) -> list[dict[str, Any]]:
        """The builder's arguments for what is wanted, best first: a later one is tried when the builder does not know a keyword.

        Raises:
            SourceError: the architecture cannot be built as wanted.
        """

    def build(self, name: str, args: Mapping[str, Any]) -> nn.Module:
        """A new network, never with pretrained weights."""

    def pretrained(self, name: str, args: Mapping[str, Any]) -> Published:
        """The network with its published weights, which are fetched if they are not there.

        Raises:
            SourceError: this registry gives none, or they cannot be had.
        """

    def input_size(self, name: str) -> tuple[int, ...]:
        """The published input size of an architecture, ``"c h w"`` or ``"c t h w"``."""
