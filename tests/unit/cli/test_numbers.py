from __future__ import annotations

from packify.cli.numbers import amount, megabytes, span, times


def test_numbers() -> None:
    assert [amount(value) for value in (0, 999, 25557032, 4089184256)] == ["0", "999", "25.557 M", "4.089 G"]
    assert [megabytes(value) for value in (512, 102_400_000)] == ["0.5 kB", "102.4 MB"]
    assert [times(27, 25), times(1, 0)] == ["1.08x", "-"]
    assert [span([]), span([3]), span([64, 32])] == ["-", "3", "32-64"]
