"""Some members as a packed network, and packed networks as one: the same members, bit for bit."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.core.spec import Spec, exact, number
from packify.ops.table import RULES
from tests.laws import checks
from tests.models.catalogue import CASES


def _packed(name: str, seed: int = 0, **spec: Any) -> tuple[packify.PackedNetwork, Any]:
    torch.manual_seed(0)
    case = CASES[name]
    inputs = case.inputs()
    return packify.pack(case.build(), inputs, **{"alpha": 2, "num_estimators": 3, "seed": seed, **spec}), inputs


def _same_member(one: packify.PackedNetwork, i: int, other: packify.PackedNetwork, j: int) -> None:
    first, second = one.extract(i), other.extract(j)
    assert first.code == second.code
    mine, theirs = first.state_dict(), second.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize("name", ["lenet", "norms", "vit", "lstm", "tables", "weight norm"])
def test_parts_and_joins_hold_the_same_members(name: str) -> None:
    packed, inputs = _packed(name)
    some = packify.part(packed, [2, 0])
    for mine, theirs in enumerate((2, 0)):
        _same_member(some, mine, packed, theirs)
    assert some.spec.ratio == packed.spec.ratio == Fraction(2, 3)
    back = packify.join([packify.part(packed, [0]), packify.part(packed, [-2, -1])])
    assert back.digest == packed.digest
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), packed.state_dict().values(), strict=True))
    assert back.report.packed_params == packed.report.packed_params
    network = checks.randomised(some)
    checks.check_equality(network, checks.doubled(inputs))
    checks.check_budget(some, CASES[name].build())


def test_what_is_carried_over() -> None:
    packed, _ = _packed("lenet", inputs="independent", average="none")
    packed.double().eval()
    first = next(packed.parameters())
    first.requires_grad_(False)
    next(module for module in packed.modules() if isinstance(module, nn.Conv2d)).train()
    one = packify.part(packed, [1])
    assert (one.inputs, one.average, one.training) == ("independent", "none", False)
    assert [p.requires_grad for p in one.parameters()] == [p.requires_grad for p in packed.parameters()]
    assert {p.dtype for p in one.parameters()} == {torch.float64}
    assert [module.training for module in one.modules()] == [module.training for module in packed.modules()]
    assert one.num_estimators == 1
    before = first.clone()
    with torch.no_grad():
        next(one.parameters()).zero_()
    assert torch.equal(first, before)
    again = packify.join([one, packed])
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in packed.parameters()]
    assert packify.part(packed.to("meta"), [0, 1]).spec.num_estimators == 2


def test_a_part_is_saved_and_loaded(tmp_path: Path) -> None:
    packed, x = _packed("lenet")
    for members in ([1], [0, 2]):
        some = packify.part(packed, members).eval()
        packify.save(some, tmp_path / str(len(members)))
        loaded = packify.load(tmp_path / str(len(members)), model=CASES["lenet"].build())
        assert torch.equal(loaded(x), some(x))
    joined = packify.join([packify.part(packed, [1]), packed])
    packify.save(joined, tmp_path / "joined")
    assert packify.load(tmp_path / "joined", model=CASES["lenet"].build()).spec == joined.spec


@pytest.mark.parametrize(("alpha", "members"), [(2, 3), (1.5, 4), (0.1, 7), (3, 7), (1.25, 6), (4, 4)])
def test_the_width_of_a_member_stays_an_exact_fraction(alpha: float, members: int) -> None:
    spec = Spec(alpha, members)
    assert spec.ratio == Fraction(str(alpha)) / members
    for count in range(1, 12):
        other = spec.with_members(count)
        assert other.ratio == spec.ratio
        assert Spec.from_dict(other.to_dict()) == other
        assert other.with_members(members) == spec


@pytest.mark.parametrize("value", [1, 2.0, 0.1, 0.3, 1e-3, 2 / 3, 1.4142135623730951, 12345.678, 1 / 7, 1.7320508])
def test_a_number_stands_for_one_fraction(value: float) -> None:
    assert float(exact(value)) == value
    assert number(exact(value)) == value
    assert exact(0.1) == Fraction(1, 10)
    assert exact(1 / 3) == Fraction(1, 3)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([], "empty"),
        ([0, 0], "twice"),
        ([0, -3], "twice"),
        ([3], "3 members"),
        ([-4], "3 members"),
        ([True], "True"),
        (["0"], "'0'"),
        (1, "list"),
    ],
)
def test_lists_that_name_no_part(members: Any, says: str) -> None:
    packed, _ = _packed("mlp")
    with pytest.raises(packify.PackError, match=says):
        packify.part(packed, members)


def test_networks_that_cannot_be_joined() -> None:
    packed, _ = _packed("mlp")
    other, _ = _packed("mlp", alpha=1)
    with pytest.raises(packify.PackError, match=r"\(.*\) where networks\[0\] has .*\(.*\)"):
        packify.join([packed, other])
    with pytest.raises(packify.PackError, match="float64"):
        packify.join([packed, copy.deepcopy(packed).double()])
    frozen = copy.deepcopy(packed)
    next(frozen.parameters()).requires_grad_(False)
    with pytest.raises(packify.PackError, match="frozen"):
        packify.join([packed, frozen])
    dropped = copy.deepcopy(packed)
    next(module for module in dropped.modules() if isinstance(module, nn.Dropout)).p = 0.75
    with pytest.raises(packify.PackError, match=r"p: 0\.75"):
        packify.join([packed, dropped])
    sized = packify.pack(nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(2, 9), alpha=2, num_estimators=2)
    told = packify.pack(nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 4)), torch.randn(2, 9), alpha=2, num_estimators=2)
    with pytest.raises(packify.PackError, match="tanh"):
        packify.join([sized, told])
    for wrong in ([], packed, [packed, nn.Linear(2, 2)], 3):
        with pytest.raises(packify.PackError):
            packify.join(wrong)  # type: ignore[arg-type]


def test_rules_that_do_not_survive_pickling_are_asked_for() -> None:
    rule = RULES["relu"]
    own = packify.Rule("pointwise", rule.widths, rule.pack)
    packed = packify.pack(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(2, 4), alpha=2, num_estimators=2, rules={"relu": own}
    )
    assert packify.part(packed, [0]).num_estimators == 1
    with pytest.raises(packify.PackError, match="pickled"):
        packify.part(pickle.loads(pickle.dumps(packed)), [0])
