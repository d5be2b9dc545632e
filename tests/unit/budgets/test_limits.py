import pytest

from packify.budgets.limits import parse_limit
from packify.core.errors import BudgetError


@pytest.mark.parametrize(
    ("quantity", "written", "most"),
    [
        ("params", "1.0x", 1000.0),
        ("params", "0.5 X", 500.0),
        ("params", "12M", 12e6),
        ("params", "12m", 12e6),
        ("params", "1.5k", 1500.0),
        ("params", 250_000, 250_000.0),
        ("params", "1e6", 1e6),
        ("mult_adds", "2G", 2e9),
        ("mult_adds", "2B", 2e9),
        ("mult_adds", ".5T", 5e11),
        ("memory", "8GB", 8e9),
        ("memory", "8GiB", 8 * 2**30),
        ("memory", "100B", 100.0),
        ("training_memory", "1.5x", 1500.0),
        ("training_memory", "512 MB", 512e6),
    ],
)
def test_limits_are_read(quantity, written, most):
    limit = parse_limit(quantity, written, reference=1000)
    assert limit.most == pytest.approx(most)
    assert limit.meets(most)
    assert not limit.meets(most * 1.001)


@pytest.mark.parametrize(
    ("quantity", "written", "says"),
    [
        ("params", "12Q", "'Q' is not a unit of parameters"),
        ("params", "8GB", "'GB' is not a unit of parameters"),
        ("memory", "8G", "'G' is not a unit of memory"),
        ("mult_adds", "much", "a limit is a number with a unit"),
        ("mult_adds", "", "a limit is a number with a unit"),
        ("mult_adds", "-1x", "a limit is a number with a unit"),
        ("params", "0x", "not above zero"),
        ("params", 0, "not above zero"),
        ("params", "1e999", "not above zero"),
        ("params", True, "a limit is a number with a unit"),
    ],
)
def test_other_limits_are_refused_in_one_clear_message(quantity, written, says):
    with pytest.raises(BudgetError, match="the limit on") as caught:
        parse_limit(quantity, written, reference=1000)
    assert says in str(caught.value)
    assert "what to do: write it relative to the reference (1.0x)" in str(caught.value)
