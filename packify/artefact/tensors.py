"""The tensors of a network by name: every parameter and buffer, with those shared between names known as one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from packify.nn.wrappers import plain_name


@dataclass(frozen=True)
class Held:
    """One tensor of a network and all the names it goes by; the first is the one it is saved under."""

    names: tuple[str, ...]
    tensor: torch.Tensor


def held_tensors(network: nn.Module) -> list[Held]:
    """Every distinct parameter and buffer, non-persistent buffers too: a network rebuilt without data has lost those as well."""
    names: dict[int, list[str]] = {}
    tensors: dict[int, torch.Tensor] = {}
    for name, tensor in _named(network):
        names.setdefault(id(tensor), []).append(name)
        tensors[id(tensor)] = tensor
    return [Held(tuple(names[key]), tensors[key]) for key in names]


def to_save(network: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors as the weights file takes them: on the CPU, contiguous, each in memory of its own."""
    taken: set[int] = set()
    tensors: dict[str, torch.Tensor] = {}
    for held in held_tensors(network):
        tensor = held.tensor.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage()
        if storage.nbytes() != tensor.numel() * tensor.element_size() or storage.data_ptr() in taken:
            tensor = tensor.clone()
        taken.add(tensor.untyped_storage().data_ptr())
        tensors[held.names[0]] = tensor
    return tensors


def put(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Replace every tensor of `network` by the saved one of its first name, under all of its names: what was tied stays tied."""
    for held in held_tensors(network):
        saved = tensors[held.names[0]]
        new = nn.Parameter(saved, requires_grad=held.tensor.requires_grad) if isinstance(held.tensor, nn.Parameter) else saved
        for name in held.names:
            path, _, own = name.rpartition(".")
            module = network.get_submodule(path)
            if isinstance(new, nn.Parameter):
                module._parameters[own] = new
            else:
                module._buffers[own] = new


def structure_sha256(network: nn.Module, code_digest: str) -> str:
    """A digest of what must agree between saving and loading: names, shapes and ties of all tensors, and the recorded code.

    Dtypes are left out, so that a network saved after `.half()` can be loaded.
    """
    rows = sorted([list(held.names), list(held.tensor.shape)] for held in held_tensors(network))
    return hashlib.sha256(json.dumps([rows, code_digest]).encode()).hexdigest()


def _named(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in (*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)):
        yield plain_name(name), tensor
