"""Signatures: from text, from Python and from torch's schemas; which argument of a call has which name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from packify.capture.signatures import REQUIRED, Signature, correspondence, of_schema, parsed, python_signature


def test_text_is_read_as_python_reads_it() -> None:
    signature = parsed("input, weight, bias=None, *tensors, groups=1, **rest")
    assert list(signature.names) == ["input", "weight", "bias", "tensors", "groups", "rest"]
    assert signature.names["weight"].default is REQUIRED
    assert (signature.names["bias"].default, signature.names["groups"].default) == (None, 1)
    assert str(signature) == "input, weight, bias=None, *tensors, groups=1, **rest"
    assert parsed("a, b") is parsed("a, b")
    assert parsed("").parameters == ()
    for wrong in ("a,, b", "a=", "a=print", "*"):
        with pytest.raises(ValueError, match="no list of parameters"):
            parsed(wrong)


@pytest.mark.parametrize(
    ("args", "kwargs", "read", "written"),
    [
        ((1, 2), {}, {"input": 1, "weight": 2, "bias": None, "groups": 1}, ((1, 2), {})),
        ((1,), {"weight": 2, "groups": 3}, {"input": 1, "weight": 2, "bias": None, "groups": 3}, ((1, 2), {"groups": 3})),
        ((), {"weight": 2, "input": 1, "bias": 4}, {"input": 1, "weight": 2, "bias": 4, "groups": 1}, ((1, 2, 4), {})),
        ((), {"self": 1, "weight": 2}, {"input": 1, "weight": 2, "bias": None, "groups": 1}, ((1, 2), {})),  # another spelling
    ],
)
def test_a_call_has_one_form_and_names_for_all_arguments(args: Any, kwargs: Any, read: Any, written: Any) -> None:
    signature = parsed("input, weight, bias=None, *, groups=1")
    assert signature.read(args, kwargs) == read
    assert signature.written(signature.given(args, kwargs)) == written


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [((1, 2, 3, 4), {}, "4 arguments by position"), ((1,), {"input": 2}, "twice"), ((1,), {"nothing": 2}, "no argument 'nothing'")],
)
def test_calls_that_do_not_fit(args: Any, kwargs: Any, message: str) -> None:
    signature = parsed("input, weight, bias=None, *, groups=1")
    with pytest.raises(TypeError, match=message):
        signature.given(args, kwargs)
    assert signature.fitted(args, kwargs, strict=False) is None


def test_any_number_of_tensors_one_by_one_or_as_one_list() -> None:
    signature = parsed("equation, *operands")
    for args in (("ij", 1, 2), ("ij", [1, 2]), ("ij", (1, 2))):
        assert signature.read(args, {}) == {"equation": "ij", "operands": (1, 2)}
    assert signature.read(("ij",), {}) == {"equation": "ij", "operands": ()}
    assert parsed("*tensors").open
    assert not signature.open


def test_a_gap_is_filled_by_defaults_and_what_has_none_goes_by_name() -> None:
    assert parsed("a, b=2, c=3").written({"a": 1, "c": 5}) == ((1, 2, 5), {})
    assert parsed("a, b, c=3").written({"a": 1, "c": 5}) == ((1,), {"c": 5})


def test_rows_and_calls_name_one_argument_in_two_ways() -> None:
    own, row = python_signature(lambda self, axis, keepdims=False: None), parsed("input, dim=None, keepdim=False")
    assert own is not None
    assert correspondence(own, row) == {"input": "input", "axis": "dim", "keepdims": "keepdim"}
    assert correspondence(parsed("theta, size"), parsed("input, shape")) == {"theta": "input", "size": "shape"}
    assert correspondence(parsed("x, y"), parsed("x, z")) == {"x": "x"}
    assert parsed("input, dim").name_of("axis") == "dim"
    assert parsed("dim, dims").name_of("dims") == "dims"
    with pytest.raises(TypeError, match="no argument"):
        parsed("dim0, dim1").name_of("axis")


def _schema(name: str) -> list[Signature]:
    return [of_schema(schema) for schema in torch._C._jit_get_schemas_for_operator(f"aten::{name}")]


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "names"),
    [
        ("sum", (torch.zeros(2), [0]), {"keepdim": True}, {"input", "dim", "keepdim"}),
        ("add", (torch.zeros(2), torch.zeros(2)), {"alpha": 2}, {"input", "other", "alpha"}),
        ("max", (torch.zeros(2), torch.zeros(2)), {}, {"input", "other"}),
        ("max", (torch.zeros(2), 0), {}, {"input", "dim"}),
        ("split", (torch.zeros(4), [1, 3]), {}, {"input", "split_size"}),
        ("view", (torch.zeros(4), torch.float16), {}, {"input", "dtype"}),
    ],
)
def test_of_torchs_overloads_the_one_that_fits_is_found(name: str, args: Any, kwargs: Any, names: set[str]) -> None:
    fitting = [found for signature in _schema(name) if (found := signature.fitted(args, kwargs, strict=True)) is not None]
    assert names in [set(found) for found in fitting]


def test_numbers_stand_for_lists_and_tensors_of_no_axes_for_numbers_where_nothing_else_fits() -> None:
    signature = next(one for one in _schema("permute") if "dims" in one.names)
    assert signature.fitted((torch.zeros(2), 0), {}, strict=True) is None
    assert signature.fitted((torch.zeros(2), 0), {}, strict=False) is not None
    assert signature.gathered((torch.zeros(2, 3), 1, 0))[1] == (1, 0)
    select = next(one for one in _schema("select") if one.names["index"].type == "int")
    assert select.fitted((torch.zeros(2), 0, torch.tensor(1)), {}, strict=True) is None
    assert select.fitted((torch.zeros(2), 0, torch.tensor(1)), {}, strict=False) is not None


def test_python_functions() -> None:
    def function(self: Any, a: int, *, b: int = 2) -> None: ...

    signature = python_signature(function)
    assert signature is not None
    assert list(signature.names) == ["input", "a", "b"]
    assert str(signature) == "input, a, *, b=2"
    assert python_signature(lambda *args, **kwargs: None) is None  # names no argument
    assert python_signature(torch.add) is None
