"""Calls on Python's stack: what can be repeated on another tensor or layer, and what cannot."""

from __future__ import annotations

import enum
import functools
import math
import sys
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from packify.nn.recipes import SUBJECT, Call
from packify.sources.calls import call_of_frame, call_of_method, frames, init_frame, is_plain, line_of, site, truncated_on_meta

SIZES = (7, 40)


def _here(tensor: Any) -> tuple[Call, Any] | None:
    """The call of whoever calls this."""
    frame = sys._getframe(1)
    return call_of_frame(frame, lambda value: value is tensor and not isinstance(value, nn.ModuleList), SIZES)


def every_kind(tensor: Tensor, std: float = 1.0, /, *rest: int, mode: str = "fan_in", **more: Any) -> Any:
    found = _here(tensor)
    with torch.no_grad():
        tensor.fill_(std + sum(rest) + len(mode) + sum(more.values()))
    return found


def plain_layer(layer: nn.Linear, bias: float = 0.0) -> Any:
    return _here(layer)


class Owner(nn.Linear):
    def reset(self, scale: float = 0.5) -> Any:
        return _here(self)


def two_tensors(tensor: Tensor, other: Any) -> Any:
    return _here(tensor)


def nothing() -> Any:
    return _here(None)


def in_turn(tensor: Tensor) -> Generator[Any]:
    yield _here(tensor)


def made(std: Any) -> Callable[[Tensor], Any]:
    def local(tensor: Tensor) -> Any:
        found = _here(tensor)
        with torch.no_grad():
            tensor.fill_(std if isinstance(std, float) else 0.0)
        return found

    return local


def test_a_call_is_made_again_with_everything_it_was_given() -> None:
    tensor, again = torch.zeros(2), torch.zeros(3)
    call, subject = every_kind(tensor, 0.25, 1, 2, mode="mean", a=4.0)
    assert subject is tensor
    assert (call.args, dict(call.kwargs)) == ((SUBJECT, 0.25, 1, 2), {"mode": "mean", "a": 4.0})
    assert (call.name, call.of_module) == ("every_kind", False)
    call(again)
    assert again.tolist() == [11.25] * 3
    call(again, {1: 0.5, "a": 5.0})
    assert again.tolist() == [12.5] * 3
    assert call.site.startswith(f"{__file__}:")


def test_a_report_shows_what_is_not_a_default() -> None:
    call, _ = every_kind(torch.zeros(1))
    assert call.words({}) == "every_kind()"
    call, _ = every_kind(torch.zeros(1), 0.125, mode="m")
    assert call.words({}) == "every_kind(std=0.125, mode='m')"


def test_a_function_and_a_method_of_a_layer_have_names_of_their_own() -> None:
    layer = Owner(2, 2)
    call, subject = plain_layer(layer, 2.0)
    assert (call.name, call.of_module, subject) == ("plain_layer of Owner", True, layer)
    call, _ = layer.reset()
    assert call.name == "Owner.reset"
    assert call.words({}) == "Owner.reset"


def test_a_function_that_is_nowhere_by_name_is_made_of_its_code() -> None:
    call, _ = made(0.75)(torch.zeros(1))
    again = torch.zeros(2)
    call(again)
    assert again.tolist() == [0.75, 0.75]


@pytest.mark.parametrize(
    "refused",
    [
        lambda tensor: two_tensors(tensor, torch.zeros(1)),
        lambda tensor: two_tensors(tensor, [object()]),
        lambda tensor: two_tensors(tensor, every_kind),
        lambda tensor: two_tensors(tensor, 40),  # a size that the tensor has
        lambda tensor: two_tensors(1, 2),
        lambda tensor: plain_layer(nn.ModuleList()),  # type: ignore[arg-type] # not the layer that was asked for
        lambda tensor: nothing(),
        lambda tensor: next(in_turn(tensor)),
        made(torch.ones(1)),
    ],
)
def test_what_cannot_be_made_again(refused: Callable[[Tensor], Any]) -> None:
    assert refused(torch.zeros(7, 40)) is None


def test_small_numbers_and_numbers_of_no_width_are_no_sizes() -> None:
    for number in (3, 4, 41, 7.0, True):
        assert two_tensors(torch.zeros(7, 40), number) is not None
    assert two_tensors(torch.zeros(7, 40), 7) is None


def _outer(depth: int) -> list[FrameType]:
    return _outer(depth - 1) if depth else list(frames(test_the_stack_ends_at_the_code_that_was_asked_for.__code__))


def test_the_stack_ends_at_the_code_that_was_asked_for() -> None:
    assert [frame.f_code.co_name for frame in _outer(2)] == ["_outer"] * 3


def test_the_stack_ends_below_a_constructor() -> None:
    class Made:
        def __init__(self) -> None:
            self.found = self.own()

        def own(self) -> list[FrameType]:
            return list(frames(test_the_stack_ends_below_a_constructor.__code__))

    assert [frame.f_code.co_name for frame in Made().found] == ["own"]


def test_lines() -> None:
    assert site() == line_of(sys._getframe())
    assert line_of(None) == ""


class _Watch(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, str] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        frame = init_frame()
        self.names[func.__name__] = frame.f_code.co_name if frame is not None else ""
        return func(*args, **(kwargs or {}))


def test_the_outermost_function_of_torch_nn_init_is_found() -> None:
    watch = _Watch()
    with watch:
        nn.init.kaiming_normal_(torch.empty(3, 3))
        torch.empty(2).uniform_()
    assert watch.names["normal_"] == "kaiming_normal_"
    assert watch.names["uniform_"] == ""
    assert init_frame() is None


def test_truncated_normals_are_seen_on_meta_and_are_torchs_elsewhere() -> None:
    own = nn.init._no_grad_trunc_normal_  # type: ignore[attr-defined]
    torch.manual_seed(0)
    wanted = nn.init.trunc_normal_(torch.empty(50), std=2.0)
    watch = _Watch()
    with truncated_on_meta(), watch:
        torch.manual_seed(0)
        assert nn.init.trunc_normal_(torch.empty(50), std=2.0).equal(wanted)
        watch.names.clear()
        nn.init.trunc_normal_(torch.empty(50, device="meta"))
        assert watch.names["normal_"] == "trunc_normal_"
    with pytest.raises(KeyError), truncated_on_meta():
        watch.names.pop("no such name")
    assert nn.init._no_grad_trunc_normal_ is own  # type: ignore[attr-defined]


def test_a_method_of_a_tensor_as_a_call() -> None:
    tensor, again = torch.zeros(2), torch.ones(4)
    call = call_of_method(Tensor.fill_, (tensor, 3.5), {}, "here:1")
    call(again)
    assert again.tolist() == [3.5] * 4
    assert (call.words({}), call.site, call.of_module) == ("fill_(3.5)", "here:1", False)
    assert call_of_method(Tensor.normal_, (tensor, 0.0), {"std": 2.0, "generator": None}, "").words({}) == "normal_(0, std=2)"
    by_name = call_of_method(nn.init.constant_, (), {"tensor": tensor, "val": 2.0}, "")
    assert by_name.kwargs == {"tensor": SUBJECT, "val": 2.0}
    by_name(again)
    assert again.tolist() == [2.0] * 4


class _Word(enum.Enum):
    ONE = 1


def _closed_over(value: Any) -> Callable[[], Any]:
    return lambda: value


def _empty_cell() -> Callable[[], Any]:
    def function() -> Any:
        return later

    if not function:  # never: `later` stays without a value
        later = 1
    return function


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        (None, True),
        (1 + 2j, True),
        (b"x", True),
        (_Word.ONE, True),
        (nn.Linear, True),
        (math, True),
        (torch.float16, True),
        (torch.channels_last, True),
        ([1, (2.0, {"a": {3}})], True),
        (functools.partial(math.pow, 2), True),
        (math.sqrt, True),
        (_closed_over(3), True),
        (torch.zeros(1), False),
        ([[torch.zeros(1)]], False),
        ({"a": nn.ReLU()}, False),
        (functools.partial(math.pow, torch.zeros(1)), False),
        ([].append, False),  # belongs to a list that a second call would change
        (_closed_over(torch.zeros(1)), False),
        (_closed_over(_closed_over(nn.ReLU())), False),
        (_empty_cell(), False),
        (object(), False),
        (functools.reduce(lambda inner, _: [inner], range(9), []), False),  # nested too deep to look
    ],
)
def test_plain_values(value: object, is_one: bool) -> None:
    assert is_plain(value) is is_one


def test_a_structure_that_holds_itself_is_not_plain() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert not is_plain(ring)
