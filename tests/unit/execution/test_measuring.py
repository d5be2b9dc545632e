from __future__ import annotations

import time

import torch

from packify.execution.measuring import Timing, measure_by_turns

CPU = torch.device("cpu")


def test_functions_are_called_by_turns() -> None:
    calls: list[str] = []
    functions = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    found = measure_by_turns(functions, device=CPU, budget_s=10, rounds=2, too_slow=1e9)
    assert "".join(calls) == "aabbcc" + "cba" + "abc"
    assert all(len(one.seconds) == 2 for one in found.values())


def test_what_is_much_slower_is_left_out() -> None:
    found = measure_by_turns({"fast": lambda: time.sleep(0.001), "slow": lambda: time.sleep(0.05)}, device=CPU, budget_s=1, rounds=3)
    assert found["slow"].slow
    assert not found["fast"].slow
    assert found["slow"].median > found["fast"].median


def test_the_border_comes_closer_from_round_to_round_and_the_last_ones_have_all_rounds() -> None:
    seconds = {"fast": 0.002, "near": 0.00205, "half more": 0.0032, "twice": 0.0055, "slow": 0.05, "kept": 0.01, "faster": 0.0005}
    functions = {name: (lambda wait=wait: time.sleep(wait)) for name, wait in seconds.items()}
    found = measure_by_turns(functions, device=CPU, budget_s=1e-9, rounds=20, least_rounds=6, narrowing=True, kept=["kept", "faster"])
    assert [name for name, one in found.items() if one.slow] == ["half more", "twice", "slow"]
    assert [len(found[name].seconds) for name in ("fast", "near", "kept", "faster")] == [6] * 4
    calls = {name: len(one.warm_up) + len(one.seconds) for name, one in found.items()}
    assert calls["kept"] > calls["half more"] > calls["twice"] >= 1


def test_the_border_stays_wide_while_there_is_time() -> None:
    functions = {name: (lambda wait=wait: time.sleep(wait)) for name, wait in {"fast": 0.002, "half more": 0.003}.items()}
    found = measure_by_turns(functions, device=CPU, budget_s=1, rounds=10, narrowing=True)
    assert [len(one.seconds) for one in found.values()] == [10, 10]


def test_what_fails_says_why() -> None:
    def fail() -> None:
        raise RuntimeError("no kernel\nfor this")

    found = measure_by_turns({"fails": fail, "works": lambda: None}, device=CPU, budget_s=1, rounds=2)
    assert found["fails"].failure == "RuntimeError: no kernel"
    assert found["fails"].median == float("inf")
    assert found["works"].seconds


def test_the_time_is_bounded() -> None:
    began = time.perf_counter()
    measure_by_turns({name: lambda: time.sleep(0.02) for name in "ab"}, device=CPU, budget_s=0.2, rounds=10**6)
    assert time.perf_counter() - began < 2


def test_progress_is_told() -> None:
    told: list[float] = []
    measure_by_turns({"a": lambda: None}, device=CPU, budget_s=1, rounds=2, progress=lambda share, _: told.append(share))
    assert told
    assert all(0 <= share <= 1 for share in told)


def test_medians_and_spreads() -> None:
    timing = Timing([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (timing.median, timing.least) == (3.0, 1.0)
    assert timing.spread > 0
    assert Timing().median == float("inf")
