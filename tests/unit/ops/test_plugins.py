"""Rules that installed packages bring, over distributions made up on the spot."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import packify
from packify.ops import plugins
from packify.ops.table import RULES, merged

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    plugins.installed.cache_clear()
    yield
    plugins.installed.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package of one module, with entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, code: str, *entries: str) -> None:
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(code)
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("[packify.rules]\n" + "\n".join(entries) + "\n")

    return install


_RULE = "import packify\nRULES = {'erf': packify.Rule('from a package', lambda walk, x: x.dims)}\n"


def test_nothing_installed_changes_nothing() -> None:
    assert merged(None) == dict(RULES)


def test_a_dict_is_read(install: Install) -> None:
    install("brings_a_dict", _RULE, "main = brings_a_dict:RULES")
    assert merged(None)["erf"].family == "from a package"
    report = packify.pack(Erf(), torch.randn(3, 4), alpha=2, num_estimators=2).report
    assert "erf runs once per member" in report.fallbacks[0].what


def test_a_callable_is_called(install: Install) -> None:
    install("brings_a_callable", _RULE + "def rules():\n    return RULES\n", "main = brings_a_callable:rules")
    assert merged(None)["erf"].family == "from a package"


def test_the_users_own_rule_comes_first(install: Install) -> None:
    install("comes_second", _RULE, "main = comes_second:RULES")
    assert merged({"erf": packify.Rule("mine")})["erf"].family == "mine"


def test_two_packages_with_one_operator_are_refused(install: Install) -> None:
    install("first_of_two", _RULE, "a = first_of_two:RULES")
    install("second_of_two", _RULE, "b = second_of_two:RULES")
    with pytest.raises(packify.SpecError, match=r"(?s)b = 'second_of_two:RULES' of second_of_two 1.2.*'erf'.*of first_of_two 1.2"):
        merged(None)


@pytest.mark.parametrize(
    ("code", "entry", "message"),
    [
        ("raise ImportError('no kernel for this machine')", "main = broken:RULES", "ImportError: no kernel for this machine"),
        ("", "main = broken:RULES", "AttributeError"),
        ("def rules():\n    return 1 / 0", "main = broken:rules", "ZeroDivisionError"),
        ("RULES = ['erf']", "main = broken:RULES", "a list"),
        ("RULES = {'erf': print}", "main = broken:RULES", "a builtin_function_or_method"),
        ("RULES = {7: None}", "main = broken:RULES", "a key of type int"),
    ],
)
def test_a_broken_package_is_named(install: Install, code: str, entry: str, message: str) -> None:
    install("broken", code, entry)
    with pytest.raises(packify.SpecError, match=message) as caught:
        merged(None)
    assert "of broken 1.2" in str(caught.value)


class Erf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.erf(self.first(x)))
