"""Every small model with inputs that it takes, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.models import images, interfaces, sequences, unusual


@dataclass(frozen=True)
class Case:
    """A model, inputs for it (batch 3) and what stays random in training mode."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    random: bool = False


def _x(*shape: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(3, *shape)


def _tokens(vocabulary: int, length: int) -> torch.Tensor:
    return torch.randint(0, vocabulary, (3, length))


CASES: dict[str, Case] = {
    "lenet": Case(images.LeNet, _x(1, 24, 24)),
    "mlp": Case(images.mlp, _x(9)),
    "flat": Case(images.Flat, _x(3, 4, 4)),
    "time series": Case(images.TimeSeries, _x(3, 16)),
    "unet": Case(images.UNet, _x(3, 8, 8)),
    "unet without norm": Case(lambda: images.UNet(norm=False), _x(3, 8, 8)),
    "upsampling unet": Case(images.UpsampleUNet, _x(2, 9, 9)),
    "volume": Case(images.Volume, _x(1, 8, 8, 8)),
    "norms": Case(images.Norms, _x(3, 6, 6)),
    "activations": Case(images.Activations, _x(3, 6, 6)),
    "shuffles": Case(images.Shuffles, _x(3, 4, 4)),
    "standardised": Case(images.standardised, _x(3, 6, 6)),
    "drop path": Case(lambda: images.DropPath(0.0), _x(3, 6, 6)),
    "random drop path": Case(images.DropPath, _x(3, 6, 6), random=True),
    "auxiliary": Case(images.Auxiliary, _x(3, 6, 6)),
    "reused": Case(images.Reused, _x(3, 6, 6)),
    "weight norm": Case(images.weight_normed, _x(3, 8)),
    "old weight norm": Case(images.old_weight_normed, _x(3, 8)),
    "spectral norm": Case(images.spectral_normed, _x(3, 8, 8)),
    "vgg": Case(images.vgg, _x(3, 8, 8)),
    "lstm": Case(lambda: sequences.Recurrent("lstm"), _x(4, 5)),
    "deep gru": Case(lambda: sequences.Recurrent("gru", layers=2, bidirectional=True), _x(4, 5)),
    "rnn": Case(lambda: sequences.Recurrent("rnn"), _x(4, 5)),
    "last state": Case(sequences.LastState, _x(4, 5)),
    "cells": Case(sequences.Cells, _x(3, 5)),
    "encoder": Case(lambda: sequences.Encoder(dropout=0.0), _x(5, 6)),
    "encoder with norm first": Case(lambda: sequences.Encoder(True, dropout=0.0), _x(5, 6)),
    "random encoder": Case(sequences.Encoder, _x(5, 6), random=True),
    "seq2seq": Case(sequences.Seq2Seq, lambda: (_tokens(11, 4), _tokens(13, 5))),
    "attending": Case(sequences.Attending, _x(4, 5)),
    "attending, time first": Case(lambda: sequences.Attending(batch_first=False), _x(4, 5)),
    "cross attending": Case(sequences.CrossAttending, lambda: (torch.randn(3, 4, 5), torch.randn(3, 6, 4))),
    "text": Case(sequences.Text, lambda: _tokens(20, 6)),
    "tied text": Case(sequences.TiedText, lambda: _tokens(12, 5)),
    "vit": Case(sequences.Vit, _x(3, 8, 8)),
    "window": Case(sequences.Window, _x(3, 4, 4)),
    "mixer": Case(sequences.Mixer, _x(6, 5)),
    "einsums": Case(sequences.Einsums, _x(4, 5)),
    **{
        f"{kind} output": Case(lambda kind=kind: interfaces.Outputs(kind), _x(5))
        for kind in ("tuple", "list", "dict", "ordered", "namedtuple", "dataclass", "nested", "none")
    },
    "two inputs": Case(interfaces.TwoInputs, lambda: (torch.randn(3, 3, 5, 5), torch.randn(3, 4))),
    "two named inputs": Case(interfaces.TwoInputs, lambda: {"table": torch.randn(3, 4), "image": torch.randn(3, 3, 5, 5), "scale": 0.5}),
    "optional input": Case(interfaces.OptionalInput, lambda: (torch.randn(3, 5), torch.randn(3, 2))),
    "absent input": Case(interfaces.OptionalInput, _x(5)),
    "regression": Case(interfaces.Regression, _x(6)),
    "colliding": Case(interfaces.Colliding, _x(5)),
    "tables": Case(interfaces.Tables, _x(5, 6)),
    "rotary": Case(unusual.Rotary, _x(6, 5)),
    "biased": Case(unusual.Biased, _x(6, 5)),
    "coordinates": Case(unusual.Coordinates, _x(3, 6, 6)),
    "per sample": Case(unusual.PerSample, _x(3, 6, 6)),
    "codebook": Case(unusual.Codebook, _x(5)),
    "experts": Case(unusual.Experts, _x(5)),
    "queries": Case(unusual.Queries, _x(3, 8, 8)),
    "low rank": Case(unusual.LowRank, _x(3, 6, 6)),
    "pairs": Case(interfaces.Pairs, lambda: (torch.randn(3, 6), torch.randn(3, 6))),
}
