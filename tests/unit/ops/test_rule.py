"""What a row says, a user's and a plug-in's too, is heard wherever it matters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.ops.listing import listed
from packify.ops.rule import Rule
from packify.ops.table import RULES, merged


@torch.library.custom_op("packify_rule_tests::noise", mutates_args=())
def noise(size: int) -> Tensor:
    return torch.randn(size)


@torch.library.custom_op("packify_rule_tests::project", mutates_args=())
def project(x: Tensor, kernel: Tensor, scale: float = 1.0) -> Tensor:
    return x @ kernel.T * scale


noise.register_fake(torch.empty)
project.register_fake(lambda x, kernel, scale=1.0: x.new_empty(x.shape[0], kernel.shape[0]))


class Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.kernel, self.last = nn.Linear(4, 8), nn.Parameter(torch.randn(6, 8)), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(project(self.first(x), self.kernel, scale=0.5))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x * 0 + noise(4))


def _projected(propagation: Any, x: Any, kernel: Any, scale: float) -> Any:
    propagation.equate(x.dims[1], kernel.dims[1])
    propagation.layer(kernel.dims[0])
    return [x.dims[0], kernel.dims[0]]


def test_a_users_mult_adds_count() -> None:
    x = torch.randn(3, 4)
    plain = packify.budget(Projected(), x, alpha=2, num_estimators=2, rules={project: Rule("mine", _projected)})
    rule = Rule("mine", _projected, mult_adds=lambda output, x, kernel, scale: output.numel() * kernel.shape[1])
    counted = packify.budget(Projected(), x, alpha=2, num_estimators=2, rules={project: rule})
    assert counted.reference.mult_adds == plain.reference.mult_adds + 6 * 8


def test_a_users_mult_adds_count_for_a_whole_module() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    model = nn.Sequential(nn.Linear(4, 4), Whole(), nn.Linear(4, 2))
    rules = {Whole: Rule("mine", mult_adds=lambda output, module, x: 1000 * module.inner.in_features)}
    counted = packify.record(model, torch.randn(3, 4), leaves=[Whole], rules=rules).budget(alpha=2, num_estimators=2)
    assert counted.reference.mult_adds == 4 * 4 + 4000 + 4 * 2


def test_a_broken_count_names_the_rule() -> None:
    rule = Rule("mine", _projected, mult_adds=lambda output, **arguments: "many")
    with pytest.raises(packify.PackifyError, match=r"mult_adds.*'many'|many"):
        packify.budget(Projected(), torch.randn(3, 4), alpha=2, num_estimators=2, rules={project: rule})


@pytest.mark.parametrize(("traits", "differ"), [({"random"}, True), (None, False)])
def test_each_member_draws_its_own_where_the_row_says_random(traits: Any, differ: bool) -> None:
    torch.manual_seed(0)
    rules = {noise: Rule("mine", lambda propagation, size: propagation.structure(), traits=traits)}
    packed = packify.pack(Noisy(), torch.randn(5, 4), alpha=2, num_estimators=2, rules=rules).eval()
    with torch.no_grad():
        for parameter in packed.parameters():
            parameter.copy_(torch.eye(3, 4).repeat(2, 1) if parameter.dim() > 1 else torch.zeros(6))
        members = packed.members(torch.randn(5, 4))
    assert torch.equal(members[0], members[1]) is not differ
    again = packed.members(torch.randn(5, 4))
    assert torch.equal(members, again) is not differ  # one that is not random is a constant of the code


def test_a_users_row_keeps_what_packifys_own_says() -> None:
    table = merged({"linear": Rule("mine"), torch.nn.functional.dropout: Rule("mine", traits=())})
    own = RULES["linear"]
    assert (table["linear"].traits, table["linear"].signature, table["linear"].mult_adds) == (own.traits, own.signature, own.mult_adds)
    assert table["dropout"].traits == frozenset()


def test_a_pointwise_operator_needs_no_more_than_the_word() -> None:
    @torch.library.custom_op("packify_rule_tests::swish", mutates_args=())
    def swish(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    swish.register_fake(torch.empty_like)
    swish.register_autograd(lambda ctx, grad: grad)

    class Net(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[1](swish(self[0](x)))

    x = torch.randn(3, 4)
    packed = packify.pack(
        Net(nn.Linear(4, 8), nn.Linear(8, 2)), x, alpha=2, num_estimators=2, rules={swish: Rule("mine", traits="pointwise")}
    )
    assert not packed.report.fallbacks
    assert packify.verify(packed, x).equality < 1e-9


@pytest.mark.parametrize(
    "widths",
    [
        _projected,
        lambda propagation, kernel, x, **_: _projected(propagation, x, kernel, 1),
        lambda propagation, data, matrix, *rest: _projected(propagation, data, matrix, 1),
        lambda propagation, data, matrix, **rest: _projected(propagation, data, matrix, rest["scale"]),
    ],
)
def test_a_rule_takes_its_arguments_by_name_or_in_order(widths: Any) -> None:
    packed = packify.pack(Projected(), torch.randn(3, 4), alpha=2, num_estimators=4, rules={project: Rule("mine", widths)})
    assert next(shape for name, shape in ((n, p.shape) for n, p in packed.named_parameters()) if name.endswith("kernel"))[0] == 4 * 3


def test_an_argument_that_a_rule_does_not_know_is_named() -> None:
    with pytest.raises(packify.PackError, match=r"scale=0\.5"):
        packify.pack(
            Projected(), torch.randn(3, 4), alpha=2, num_estimators=2, rules={project: Rule("mine", lambda propagation, data, matrix: [])}
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"traits": {"randomly"}}, "randomly"),
        ({"traits": 3}, "3"),
        ({"signature": "input, ="}, "input, ="),
        ({"signature": 3}, "3"),
        ({"traits": "layer"}, "no argument input, weight, groups"),
        ({"traits": "layer", "signature": "input, weight"}, "no argument groups"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(packify.SpecError, match=message):
        Rule("mine", **arguments)


def test_the_listing_says_it_all() -> None:
    rows = {row.name: row for row in listed(merged({project: Rule("mine", _projected, traits="random", mult_adds=lambda output, **_: 0)}))}
    assert rows["conv2d"].signature.startswith("input, weight, bias=None, stride=1")
    assert rows["conv2d"].has == ("widths", "pack", "refit", "mult_adds")
    assert rows["packify_rule_tests::project"].traits == ("random",)
    assert rows["packify_rule_tests::project"].has == ("widths", "mult_adds")
