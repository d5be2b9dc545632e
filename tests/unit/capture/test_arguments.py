"""Example inputs as arguments of forward."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from torch import nn

from packify.capture.arguments import bind, module_types, with_concrete_args
from packify.core.errors import SpecError, TraceError


class _Net(nn.Module):
    def forward(self, x: Any, mask: Any = None, *, scale: float = 1.0) -> Any:
        return x


_SIGNATURE = inspect.signature(_Net().forward)


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        ("x", {"x": "x"}),
        (("x", "m"), {"x": "x", "mask": "m"}),
        ({"x": "x", "scale": 2.0}, {"x": "x", "scale": 2.0}),
        ((["a", "b"],), {"x": ["a", "b"]}),  # one argument that is a list
    ],
)
def test_inputs_by_position_and_by_name(given: Any, bound: dict[str, Any]) -> None:
    assert bind(_SIGNATURE, given) == bound


@pytest.mark.parametrize("given", [(), ("x", "m", 2.0), {"y": 1}, {"mask": 1}])
def test_inputs_that_forward_does_not_take(given: Any) -> None:
    with pytest.raises(TraceError, match="forward takes"):
        bind(_SIGNATURE, given)


def test_arguments_of_one_value_for_good() -> None:
    assert with_concrete_args(_Net(), "x", None) == "x"
    assert with_concrete_args(_Net(), "x", {"scale": 2.0}) == {"x": "x", "scale": 2.0}
    assert with_concrete_args(_Net(), {"x": "x"}, {"mask": "m"}) == {"x": "x", "mask": "m"}
    for given, concrete, found in (
        (("x", "m"), {"mask": 1}, "mask in example_inputs too"),
        ("x", {"size": 1}, "size"),
        (("x",) * 4, {"scale": 1}, "too many"),
    ):
        with pytest.raises(TraceError, match=found):
            with_concrete_args(_Net(), given, concrete)


def test_types_of_modules() -> None:
    assert module_types(nn.Linear) == (nn.Linear,)
    assert module_types([nn.Linear, _Net]) == (nn.Linear, _Net)
    assert module_types(()) == ()
    for wrong in (int, nn.Linear(1, 1), [nn.Linear(1, 1)], "Linear", 3):
        with pytest.raises(SpecError, match="leaves"):
            module_types(wrong)
