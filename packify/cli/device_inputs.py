"""Devices by the names that a command line gives, and inputs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from packify.nn.packed_network import PackedNetwork


def require_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        SpecError: there is no such device here.
    """
    import torch

    from packify.core.errors import SpecError

    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        why = "torch has no such device here"
        raise SpecError("--device", found=f"{name!r}: {str(error).splitlines()[0]}", why=why, fix="pass --device cpu") from error
    if device.type == "meta":
        raise SpecError("--device", found=repr(name), why="nothing is computed there", fix="pass --device cpu")
    return device


def inputs_like(packed: PackedNetwork, batch: int, device: torch.device, dtype: torch.dtype) -> Any:
    """Random inputs shaped like the example of a packed network, with another batch.

    Raises:
        SpecError: the batch is none, or the network takes its example's only.
    """
    import torch

    from packify.core import nested
    from packify.core.errors import SpecError

    if batch < 1:
        raise SpecError("--batch", found=str(batch), why="a batch has at least one sample", fix="pass --batch 16")
    members = packed.num_estimators if packed.training and packed.inputs == "independent" else 1

    def make(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if not leaf.dim():
            return torch.zeros((), dtype=leaf.dtype, device=device)
        if not packed.batched and leaf.shape[0] != batch:
            found, fix = f"a network that takes a batch of {leaf.shape[0]} only", f"pass --batch {leaf.shape[0]}"
            raise SpecError("--batch", found=found, why="the batch size is a constant of its code", fix=fix)
        shape = (batch * members, *leaf.shape[1:])
        if leaf.is_floating_point():
            return torch.randn(shape, dtype=dtype, device=device)
        return torch.zeros(shape, dtype=leaf.dtype, device=device)

    return nested.map_leaves(packed.example_inputs, make, in_dataclasses=True)
