"""What was written to which part of whose memory."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from packify.sources.fills import attribute_of, is_subject, is_whole, part_of, storage_of, tensors_in, writes


def test_tensors_over_the_same_memory_share_a_number() -> None:
    tensor = torch.zeros(4, 6)
    for same in (tensor.T, tensor[1:], tensor.data, tensor.view(24), nn.Parameter(tensor)):
        assert storage_of(same) == storage_of(tensor)
    assert storage_of(tensor.clone()) != storage_of(tensor)
    assert storage_of(torch.zeros(2, device="meta")) != storage_of(torch.zeros(2, device="meta"))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_part_of_its_memory_that_a_tensor_has(device: str) -> None:
    tensor = torch.zeros(12, 5, dtype=torch.float64, device=device)
    assert is_whole(tensor)
    assert is_whole(tensor.T)
    assert part_of(tensor) == (0, 1)
    assert not is_whole(tensor[1:])
    assert part_of(tensor[3:9]) == (Fraction(1, 4), Fraction(3, 4))
    assert part_of(tensor.chunk(3)[2]) == (Fraction(2, 3), 1)
    assert part_of(tensor[:, 1]) is None  # no range of memory
    assert part_of(tensor.T) is None
    assert part_of(torch.zeros(0, device=device)) is None


def test_tensors_in_nested_arguments() -> None:
    a, b, c = (torch.full((), float(number)) for number in range(3))
    assert [int(tensor) for tensor in tensors_in(((a, [b, "x"]), {"out": {"deep": c}, "n": 1}))] == [0, 1, 2]
    assert list(tensors_in("abc")) == []


_CHANGED = torch.tensor([3.0, 5.0])
_WRITES = {
    "add_": (1.0,),
    "copy_": (torch.ones(2),),
    "normal_": (),
    "zero_": (),
    "__setitem__": (0, 1.0),
    "__imul__": (2.0,),
    "__itruediv__": (2.0,),
    "erfinv_": (),
    "index_fill_": (0, torch.tensor([1]), 0.0),
}
_READS = {"add": (1.0,), "__add__": (1.0,), "__getitem__": (0,), "__len__": (), "requires_grad_": (), "detach_": (), "t_": ()}


@pytest.mark.parametrize("name", [*_WRITES, *_READS])
def test_a_method_writes_if_the_numbers_are_others_afterwards(name: str) -> None:
    tensor = _CHANGED.clone()
    getattr(tensor, name)(*{**_WRITES, **_READS}[name])
    assert (not tensor.detach().equal(_CHANGED)) == writes(name) == (name in _WRITES)


@pytest.mark.parametrize("statement", ["x += 1", "x -= 1", "x *= 2", "x /= 2", "x **= 2", "x //= 2", "x %= 2", "x[0] = 7"])
def test_every_statement_that_writes_is_seen_as_one(statement: str) -> None:
    called: list[str] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            called.append(func.__name__)
            return func(*args, **(kwargs or {}))

    names = {"x": _CHANGED.clone()}
    with Watch():
        exec(statement, names)
    assert not names["x"].equal(_CHANGED)
    assert any(map(writes, called)), called


def test_a_parameter_is_found_in_the_layer_that_holds_it() -> None:
    layer = nn.Linear(3, 4)
    assert attribute_of(layer, storage_of(layer.bias)) == "bias"
    assert attribute_of(layer, storage_of(layer.weight.data[1:])) == "weight"
    assert attribute_of(nn.Sequential(layer), storage_of(layer.weight)) is None
    assert attribute_of(nn.Linear(3, 4, bias=False), storage_of(layer.bias)) is None


def test_what_a_call_was_made_on() -> None:
    layer, other = nn.Linear(3, 4), torch.zeros(4, 3)
    weight = layer.weight
    key = storage_of(weight)

    def found(value: object, written: Tensor = weight) -> bool:
        return is_subject(value, key, written)

    assert found(weight)
    assert found(weight.data)
    assert found(layer)
    part = weight.data[1:]
    assert not found(part)
    assert found(part, part)
    assert not found(other)
    assert not found(nn.Sequential(layer))  # holds the layer, not the tensor
    assert not found("weight")

    class Fixed(nn.Linear):
        """Has the tensor, and a size that nothing restates."""

        def __init__(self) -> None:
            super().__init__(8, 8)
            self.mine = 8

    fixed = Fixed()
    assert not is_subject(fixed, storage_of(fixed.weight), fixed.weight)
