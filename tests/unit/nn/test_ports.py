"""What goes in and out of a module, in words."""

from __future__ import annotations

import copy

import torch
from torch import nn

from packify.nn.layouts import Layout
from packify.nn.members import FRONT
from packify.nn.ports import PORTS, Ports, ports_of

IMAGE = Layout(1, (2, 3, 4, 4), torch.float32)
TOKENS = Layout(0, (2, 5, 3), torch.float32)
SCALAR = Layout(FRONT, (), torch.float32)


def test_tensors_are_found_in_nested_arguments_and_told_in_order() -> None:
    ports = Ports((IMAGE, None, [TOKENS]), {"mask": SCALAR}, (TOKENS, {"loss": SCALAR}), 4)
    assert ports.inputs == (IMAGE, TOKENS, SCALAR)
    assert ports.outputs == (TOKENS, SCALAR)
    assert str(ports) == "b (m c) h w, (m b) n c, m -> (m b) n c, m"
    assert str(Ports((None,), {}, IMAGE)) == ""


def test_a_copy_is_the_same_and_a_module_without_any_has_none() -> None:
    ports = Ports((IMAGE,), {}, IMAGE)
    assert copy.deepcopy([ports])[0] is ports
    module = nn.Identity()
    assert ports_of(module) == ()
    setattr(module, PORTS, (ports,))
    assert ports_of(module) == (ports,)
    assert ports_of(copy.deepcopy(module))[0] is ports
