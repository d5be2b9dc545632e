"""The network inside what other tools have wrapped around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from packify.capture.unwrapping import unwrap
from packify.core.errors import TraceError


def test_wrappers_are_taken_off_however_many() -> None:
    model = nn.Linear(2, 2)
    assert unwrap(model) is model
    assert unwrap(nn.DataParallel(model)) is model
    assert unwrap(torch.compile(model)) is model
    assert unwrap(torch.compile(nn.DataParallel(torch.compile(model)))) is model
    named = nn.ModuleDict({"module": nn.ReLU()})  # a part called like a wrapper's
    assert unwrap(named) is named


@pytest.mark.parametrize(
    ("given", "found", "fix"),
    [
        ("resnet18", "the name 'resnet18'", "load_reference"),
        (nn.Linear, "the class Linear", "an instance"),
        (3, "a int", "the module itself"),
        (None, "a NoneType", "the module itself"),
        (nn.Linear(2, 2).forward, "a method", "the module itself"),
    ],
)
def test_what_is_no_module_is_refused_with_what_to_pass(given: Any, found: str, fix: str) -> None:
    with pytest.raises(TraceError) as caught:
        unwrap(given, "models[1]")
    assert caught.value.where == "models[1]"
    assert caught.value.found == found
    assert fix in caught.value.fix


def test_a_module_whose_code_is_gone() -> None:
    with pytest.raises(TraceError, match="a scripted module"):
        unwrap(torch.jit.script(nn.ReLU()))
