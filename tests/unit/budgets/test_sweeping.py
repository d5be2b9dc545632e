import csv
import io
import json

import pytest

from packify import sweep
from packify.core.errors import BudgetError
from tests.unit.budgets.sweeps import X


def test_every_combination_once(found):
    specs = [(b.spec.alpha, b.spec.num_estimators, b.spec.gamma, b.spec.gamma_policy) for b in found.budgets]
    assert len(specs) == len(set(specs)) == 2 * 2 * 3
    assert specs[:3] == [(1, 2, 1, "paper"), (1, 2, 2, "paper"), (1, 2, 2, "uniform")]


def test_deep_ensembles_for_every_m(found):
    assert {count: cost.params for count, cost in found.deep_ensembles.items()} == {m: m * found.reference.params for m in (2, 4)}


def test_alpha_equal_to_m_is_the_deep_ensemble(found):
    same = next(b for b in found.budgets if b.spec.alpha == b.spec.num_estimators == 2 and b.spec.gamma == 1)
    assert (same.packed.params, same.packed.mult_adds) == (found.deep_ensembles[2].params, found.deep_ensembles[2].mult_adds)


def test_rows_and_csv(found):
    rows = found.rows()
    read = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(read) == len(rows) == len(found.budgets)
    assert [int(row["params"]) for row in read] == [budget.packed.params for budget in found.budgets]
    assert json.loads(json.dumps(found.to_dict()))["rows"] == rows


def test_progress(model):
    seen = []
    sweep(model, X, alpha=[1, 2], num_estimators=[2], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("name", ["alpha", "num_estimators", "gamma", "gamma_policies"])
def test_an_empty_list_is_refused(model, name):
    options = {"alpha": [1], "num_estimators": [2], "gamma": [1], "gamma_policies": ["paper"]} | {name: []}
    with pytest.raises(BudgetError, match=f"{name}\n.*no value"):
        sweep(model, X, **options)


def test_one_value_needs_no_list(model):
    assert len(sweep(model, X, alpha=2, num_estimators=4).budgets) == 1


def test_a_text_is_no_list(model):
    with pytest.raises(BudgetError, match=r"num_estimators\n.*'2,4'"):
        sweep(model, X, alpha=2, num_estimators="2,4")
