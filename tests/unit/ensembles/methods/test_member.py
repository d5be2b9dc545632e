from __future__ import annotations

import torch
from torch import nn

import packify
from packify.core.method_report import MethodReport
from packify.core.method_specs import BatchEnsembleSpec
from packify.ensembles.methods.member import MethodMember, add_tensor, meta_tree, shared_names, with_ties
from tests.models.sequences import TiedText


def test_ties_are_known_by_all_names() -> None:
    recording = packify.record(TiedText(), torch.zeros(2, 5, dtype=torch.long))
    root = meta_tree(recording.graphs)
    tied = {}
    for name, tensor in root.named_parameters(remove_duplicate=False):
        tied.setdefault(id(tensor), []).append(name)
    (names,) = (names for names in tied.values() if len(names) > 1)
    member = MethodMember(root, {}, {names[0]}, (root, {}), MethodReport(BatchEnsembleSpec(2)))
    assert with_ties(member) == set(names)
    assert not shared_names(member) & set(names)


def test_tensors_are_added_by_name_as_parameters_or_buffers() -> None:
    root = nn.Sequential(nn.Linear(2, 2))
    add_tensor(root, "0.r", nn.Parameter(torch.ones(2)))
    add_tensor(root, "mask", torch.ones(2))
    assert isinstance(root[0].r, nn.Parameter)
    assert dict(root.named_buffers()).keys() == {"mask"}
