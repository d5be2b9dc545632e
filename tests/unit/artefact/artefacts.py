"""What the tests of this room share."""

from __future__ import annotations

from typing import Any

import torch

import packify
from packify import sources


def pack_small(reference: sources.Reference, **options: Any) -> Any:
    """A packed network of a reference, two half as wide as it."""
    spec = {"alpha": 2, "num_estimators": 2} | options
    return packify.pack(reference.model, reference.example(), **spec)


def trained(packed: Any) -> Any:
    """Weights and statistics that no initialisation would give."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (*packed.parameters(), *packed.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator).to(tensor) + 0.1)
    return packed.eval()
