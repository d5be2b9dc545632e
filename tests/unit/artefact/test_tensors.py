from __future__ import annotations

import torch
from torch import nn

from packify.artefact.tensors import held_tensors, put, structure_sha256, to_save


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.again = self.a
        self.register_buffer("scale", torch.ones(1), persistent=False)


def test_shared_tensors_are_held_once() -> None:
    names = {held.names for held in held_tensors(Tied())}
    assert ("a.weight", "b.weight", "again.weight") in names
    assert ("scale",) in names
    assert set(to_save(Tied())) == {"a.weight", "a.bias", "b.bias", "scale"}


def test_views_are_saved_in_memory_of_their_own() -> None:
    whole = torch.arange(6.0)
    net = nn.Module()
    net.register_buffer("left", whole[:3])
    net.register_buffer("same", whole[:3].view(3))
    net.register_buffer("turned", torch.arange(6.0).reshape(2, 3).t())
    saved = to_save(net)
    assert len({tensor.untyped_storage().data_ptr() for tensor in saved.values()}) == 3
    assert all(tensor.is_contiguous() for tensor in saved.values())
    assert torch.equal(saved["turned"], net.turned)


def test_put_keeps_ties_and_what_is_trained() -> None:
    source = Tied()
    with torch.device("meta"):
        target = Tied()
    target.a.bias.requires_grad_(False)
    put(target, to_save(source))
    assert target.a.weight is target.b.weight
    assert target.again is target.a
    assert not target.a.bias.requires_grad
    assert all(torch.equal(target.state_dict()[key], value) for key, value in source.state_dict().items())
    assert torch.equal(target.scale, source.scale)


def test_structure_is_names_shapes_ties_and_code() -> None:
    base = structure_sha256(Tied(), "code")
    untied = Tied()
    untied.b.weight = nn.Parameter(torch.zeros(3, 3))
    assert structure_sha256(Tied().half(), "code") == base
    assert (
        len({base, structure_sha256(untied, "code"), structure_sha256(Tied(), "other code"), structure_sha256(nn.Linear(3, 3), "code")})
        == 4
    )
