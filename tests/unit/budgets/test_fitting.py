import json

import pytest
import torch
from torch import nn

from packify import fit, record
from packify.budgets.fitting import _last
from packify.core.errors import BudgetError, SpecError
from packify.core.spec import Spec


class Hidden(nn.Module):
    """Nearly all parameters in layers of which both widths scale, as section 3.2 of the paper assumes."""

    def __init__(self, width=256):
        super().__init__()
        self.layers = nn.Sequential(*[layer for _ in range(6) for layer in (nn.Linear(width, width, bias=False), nn.ReLU())])
        self.first, self.last = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.last(self.layers(torch.relu(self.first(x))))


X = torch.zeros(2, 4)


@pytest.fixture(scope="module")
def model():
    return Hidden()


@pytest.mark.parametrize("count", [4, 16])
def test_at_gamma_1_the_parameters_are_the_references_when_alpha_is_the_root_of_m(model, count):
    found = fit(model, X, max_params="1.02x", num_estimators=count, gamma=1)
    assert found.found[0].budget.spec.alpha == pytest.approx(count**0.5)
    assert found.found[0].binding == ("params",)


@pytest.mark.parametrize(("gamma", "policy"), [(1, "paper"), (2, "paper"), (2, "uniform"), (4, "uniform")])
@pytest.mark.parametrize("limits", [{"max_params": "0.6x"}, {"max_mult_adds": "300k", "max_params": "1.0x"}, {"max_memory": "1.2MB"}])
def test_the_largest_alpha_of_the_grid_is_found(model, gamma, policy, limits):
    found = fit(model, X, num_estimators=4, gamma=gamma, gamma_policies=[policy], step=0.25, min_alpha=0.25, **limits)
    planner = record(model, X).planner()
    fitting = []
    for index in range(1, 17):
        packed = planner.budget(Spec(index / 4, 4, gamma, policy)).packed
        values = {"params": packed.params, "mult_adds": packed.mult_adds, "memory": packed.memory_bytes()}
        if all(limit.meets(values[limit.quantity]) for limit in found.limits):
            fitting.append(index / 4)
    assert found.found[0].budget.spec.alpha == max(fitting)


def test_widest_members_come_first_and_every_limit_is_met(model):
    found = fit(model, X, max_params="1.0x", max_mult_adds="1.0x", num_estimators=[2, 4], gamma=[1, 2])
    widths = [candidate.budget.spec.ratio for candidate in found.found]
    assert widths == sorted(widths, reverse=True)
    assert all(candidate.budget.params_ratio <= 1 and candidate.budget.mult_adds_ratio <= 1 for candidate in found.found)
    assert {candidate.budget.spec.num_estimators for candidate in found.found} == {2, 4}
    assert found.front[0] == found.found[0]


def test_no_candidate_on_the_front_is_beaten(model):
    found = fit(model, X, max_params="1.0x", num_estimators=[2, 4, 8], gamma=[1, 2])
    merits = [(c.budget.spec.ratio, c.budget.spec.num_estimators, -c.budget.packed.params, -c.budget.packed.mult_adds) for c in found.front]
    for one in merits:
        assert not any(other != one and all(a >= b for a, b in zip(other, one, strict=True)) for other in merits)


def test_a_whole_deep_ensemble_is_bound_by_the_largest_alpha(model):
    found = fit(model, X, max_params="4x", num_estimators=4, gamma=1)
    assert found.found[0].budget.spec.alpha == 4
    assert found.found[0].binding == ("max_alpha",)


def test_when_nothing_fits_the_limit_that_binds_is_named(model):
    found = fit(model, X, max_params="0.001x", max_mult_adds="5x", num_estimators=4)
    assert found.found == ()
    assert found.binding == ("params",)
    assert found.smallest.spec.alpha == 1


def test_training_memory_counts_gradients_moments_and_activations(model):
    cost = record(model, X).planner().reference.cost
    assert cost.training_memory_bytes(8) == 4 * cost.params * 4 + 8 * cost.training_bytes
    found = fit(model, X, max_training_memory="1.0x", batch_size=8, num_estimators=4, gamma=1)
    assert found.found[0].budget.packed.training_memory_bytes(8) <= cost.training_memory_bytes(8)


def test_rows_are_plain(model):
    found = fit(model, X, max_params="1.0x", num_estimators=4, gamma=[1, 2])
    rows = json.loads(json.dumps(found.to_dict()))["found"]
    assert [row["alpha"] for row in rows] == [candidate.budget.spec.alpha for candidate in found.found]
    assert {"alpha", "num_estimators", "gamma", "params", "mult_adds_ratio", "binding", "pareto"} <= set(rows[0])


def test_progress_counts_combinations(model):
    seen = []
    fit(model, X, max_params="1.0x", num_estimators=4, gamma=[1, 2], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, BudgetError, "without a limit"),
        ({"max_params": "12Q"}, BudgetError, "not a unit of parameters"),
        ({"max_memory": "8G"}, BudgetError, "not a unit of memory"),
        ({"max_params": "1.0x", "min_alpha": 3, "max_alpha": 2}, BudgetError, "it is empty"),
        ({"max_params": "1.0x", "min_alpha": 9}, BudgetError, "it is empty"),
        ({"max_params": "1.0x", "step": 0}, BudgetError, "positive"),
        ({"max_params": "1.0x", "min_alpha": -1}, BudgetError, "positive"),
        ({"max_params": "1.0x", "num_estimators": []}, BudgetError, "at least one"),
        ({"max_params": "1.0x", "gamma": []}, BudgetError, "at least one"),
        ({"max_params": "1.0x", "batch_size": 0}, BudgetError, "at least one sample"),
        ({"max_params": "1.0x", "num_estimators": 0, "max_alpha": 2}, SpecError, "at least 1"),
    ],
)
def test_wrong_arguments(model, options, error, says):
    with pytest.raises(error, match=says):
        fit(model, X, **options)


@pytest.mark.parametrize("length", [1, 2, 7, 30])
def test_the_last_index_is_found_from_any_guess(length):
    for last in range(-1, length):
        for guess in (-3, 0, length // 2, length - 1, length + 5):
            assert _last(length, guess, lambda index, last=last: index <= last) == last


def test_a_step_that_is_finer_than_any_width_is_refused(model):
    with pytest.raises(BudgetError, match=r"step\n.*values of alpha"):
        fit(model, X, max_params="1.0x", num_estimators=2, step=1e-9)


def test_numbers_of_members_are_whole(model):
    with pytest.raises(SpecError, match="num_estimators"):
        fit(model, X, max_params="1.0x", num_estimators=[0])
