"""Rows of operators that treat every element alike: that torch has them, that they do, and what follows for outputs and gamma."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from packify.ops.pointwise_rows import POINTWISE

_ROWS = dict(POINTWISE)
_DROPOUTS = frozenset(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout rrelu gumbel_softmax".split()
)
_ACTIVATIONS = "relu relu6 elu selu celu gelu silu mish hardtanh hardsigmoid hardswish leaky_relu softplus softsign sigmoid tanh".split()


def test_no_name_comes_twice() -> None:
    assert [name for name, _ in POINTWISE if [other for other, _ in POINTWISE].count(name) > 1] == []


def _functions_of_one_tensor() -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Those of the rows that torch has as a function and that are not drawn."""
    found = {}
    for name, rule in POINTWISE:
        function = next((getattr(owner, name) for owner in (torch, torch.special, F) if callable(getattr(owner, name, None))), None)
        if function is None or isinstance(function, type) or "random" in rule.traits or name in _DRAWN:
            continue
        with contextlib.suppress(TypeError, RuntimeError, AttributeError):  # what needs more than one operand, or another dtype
            if isinstance(function(torch.tensor([0.25])), torch.Tensor):
                found[name] = function
    return found


_DRAWN = _DROPOUTS | frozenset(f"{name}_like" for name in ("empty", "rand", "randn", "randint")) | {"normal", "bernoulli", "poisson"}
_FUNCTIONS = _functions_of_one_tensor()


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_an_element_alone_gives_what_it_gives_among_others(name: str) -> None:
    x = torch.tensor([0.25, 0.5, 0.75])
    torch.testing.assert_close(torch.stack([_FUNCTIONS[name](one) for one in x]), _FUNCTIONS[name](x), equal_nan=True)


def test_many_of_them_were_looked_at() -> None:
    assert len(_FUNCTIONS) > 80


@pytest.mark.parametrize("name", _ACTIVATIONS)
def test_activations_are_features_and_no_logits(name: str) -> None:
    assert "not_logits" in _ROWS[name].traits


def test_what_stands_between_a_stream_and_a_layer_as_if_it_were_not_there() -> None:
    transparent = {name for name, rule in POINTWISE if "transparent" in (rule.traits or ())}
    assert {"relu", "gelu", "Dropout", "contiguous", "to", "prelu"} <= transparent
    assert not transparent & {"add", "mul", "where", "exp"}
