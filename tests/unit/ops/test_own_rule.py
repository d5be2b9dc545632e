"""The documented way to add a rule, as the example shows it."""

from __future__ import annotations

import operator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import packify
from packify.ops.table import names_of
from tests import examples

_EXAMPLE = examples.EXAMPLES / "own_rule.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return examples.example("own_rule")


def test_a_rule_takes_fewer_than_twenty_lines() -> None:
    _, rule, _ = _EXAMPLE.read_text(encoding="utf-8").split("# ---", 2)
    assert len([line for line in rule.splitlines()[1:] if line.strip()]) < 20


@pytest.mark.parametrize("ratio", [(2, 4), (1.5, 3)])
def test_members_share_one_call(example: ModuleType, ratio: tuple[float, int]) -> None:
    images = torch.randn(4, 3, 8, 8)
    packed = packify.pack(example.Gated(), images, alpha=ratio[0], num_estimators=ratio[1], rules=example.RULES)
    assert not packed.report.fallbacks
    assert packed.members(images).shape == (ratio[1], 4, 10)
    assert packify.verify(packed, images).equality < 1e-9


def test_a_rule_is_found_by_the_function_too() -> None:
    def halved(widths: object, x: object) -> None:
        raise RuntimeError("this rule was asked")

    class Net(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self[1](torch.erf(self[0](x)))

    with pytest.raises(packify.PackifyError, match="this rule was asked"):
        packify.pack(
            Net(nn.Linear(4, 8), nn.Linear(8, 2)),
            torch.randn(3, 4),
            alpha=2,
            num_estimators=2,
            rules={torch.erf: packify.Rule("own", halved)},
        )


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


@torch.library.custom_op("packify_tests::swish", mutates_args=())
def swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


swish.register_fake(torch.empty_like)


@torch.jit.script
def scripted(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@pytest.mark.parametrize(
    ("function", "keys"),
    [
        (
            swish,
            [swish, torch.ops.packify_tests.swish, torch.ops.packify_tests.swish.default, "packify_tests::swish", "swish"],
        ),
        (F.relu, [F.relu, torch.relu, torch.Tensor.relu, torch.ops.aten.relu, "relu"]),
        (lambda x: x + 1, [torch.add, torch.Tensor.add, torch.Tensor.__add__, operator.add, "add"]),
        (Sign.apply, [Sign, Sign.apply, "Sign", "autograd::Sign"]),
        (scripted, [scripted, "scripted", "jit::scripted"]),
        (nn.BatchNorm1d(8), [nn.BatchNorm1d, "BatchNorm1d"]),
    ],
)
def test_an_operator_goes_by_every_name_it_has(function: Any, keys: list[Any]) -> None:
    class Net(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self[2](function(self[0](x)) if self[1] is None else self[1](self[0](x)))

    def widths(widths: object, x: object, *args: object, **kwargs: object) -> None:
        raise RuntimeError("this rule was asked")

    model = Net(nn.Linear(4, 8), function if isinstance(function, nn.Module) else None, nn.Linear(8, 2))
    for key in keys:
        with pytest.raises(packify.PackifyError, match="this rule was asked"):
            packify.pack(model, torch.randn(3, 4), alpha=2, num_estimators=2, rules={key: packify.Rule("own", widths)})


def test_a_name_of_torchs_is_not_that_of_anothers_operator() -> None:
    assert names_of("relu") == ["relu"]
    assert names_of("swish") == ["swish", "::swish"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], "a list"),
        ({"erf": "pointwise"}, "how members are packed"),
        ({3: packify.Rule("own")}, "a key of type int"),
    ],
)
def test_what_is_no_rule_is_refused(rules: object, message: str) -> None:
    if rules == []:
        rules = [packify.Rule("own")]
    with pytest.raises(packify.SpecError, match=message):
        packify.pack(nn.Linear(4, 8), torch.randn(3, 4), alpha=2, num_estimators=2, rules=rules)  # type: ignore[arg-type]
