"""The options that commands share say what Python says."""

from __future__ import annotations

import inspect
from typing import Any, get_args, get_type_hints

import pytest

from packify.budgets.cost import CONVENTIONS
from packify.cli import budget_command, convert_command, fit_command, options, sweep_command
from packify.core.errors import SpecError
from packify.core.spec import GammaPolicy, Spec

_SHARED = {"gamma": 1, "gamma_policy": "paper", "min_channels_per_group": 64, "round_to": 1}


def _choices(annotated: Any) -> set[str]:
    literals = [part for part in get_args(annotated.__origin__) if isinstance(part, str)]
    return set(literals or [choice for part in get_args(annotated.__origin__) for choice in get_args(part)])


def test_choices_are_those_of_python() -> None:
    assert _choices(options.GammaPolicyOption) == set(get_args(GammaPolicy))
    assert _choices(budget_command.ConventionOption) == set(CONVENTIONS)
    assert _choices(convert_command.Inputs) == {"shared", "independent"}


@pytest.mark.parametrize("command", [convert_command.convert, budget_command.budget])
def test_defaults_are_those_of_the_spec(command: Any) -> None:
    spec = Spec(2, 4).to_dict()
    defaults = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}
    assert {name: defaults[name] for name in _SHARED} == {name: spec[name] for name in _SHARED} == _SHARED


@pytest.mark.parametrize("command", [convert_command.convert, budget_command.budget, fit_command.fit, sweep_command.sweep])
def test_every_option_says_what_it_is_for(command: Any) -> None:
    for name, hint in get_type_hints(command, include_extras=True).items():
        if name not in ("return", "context"):
            (option,) = hint.__metadata__
            assert option.help, name


def test_what_becomes_of_outputs() -> None:
    assert options.output_choices(["a"], ["b"]) == {"a": "free", "b": "drop"}
    assert options.output_choices(None, None) == {}
    with pytest.raises(SpecError, match="'a' in both"):
        options.output_choices(["a"], ["a"])
