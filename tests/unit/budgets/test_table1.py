import importlib.util
import re
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


pytestmark = pytest.mark.slow  # all six blocks of the table are counted


@pytest.fixture(scope="module")
def table1():
    spec = importlib.util.spec_from_file_location("table1", EXAMPLES / "table1.py")
    module = importlib.util.module_from_spec(spec)
    path, sys.modules["table1"] = list(sys.path), module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path[:] = path
        sys.modules.pop("table1", None)
        sys.modules.pop("cifar", None)


@pytest.fixture(scope="module")
def lines(table1):
    return {(line.data, line.net, line.method): line for line in table1.lines()}


RECOUNT = {
    ("CIFAR-10", "R18", "Single"): (11_173_962, 555_432_330),
    ("CIFAR-10", "R18", "Packed-Ensembles"): (8_175_784, 480_670_504),
    ("CIFAR-10", "R50", "Single"): (23_520_842, 1_297_883_018),
    ("CIFAR-10", "R50", "Packed-Ensembles"): (14_552_232, 1_004_027_688),
    ("CIFAR-10", "WR", "Single"): (36_489_290, 5_954_101_034),
    ("CIFAR-10", "WR", "Packed-Ensembles"): (19_352_008, 4_057_611_880),
    ("CIFAR-100", "R18", "Packed-Ensembles"): (8_268_304, 480_763_024),
    ("CIFAR-100", "R50", "Packed-Ensembles"): (14_921_232, 1_004_396_688),
    ("CIFAR-100", "WR", "Packed-Ensembles"): (36_619_568, 5_951_717_840),
    ("CIFAR-10", "R18", "BatchEnsemble"): (11_205_276, 2_221_729_320),
    ("CIFAR-100", "R50", "BatchEnsemble"): (23_812_204, 5_192_269_712),
    ("CIFAR-10", "WR", "BatchEnsemble"): (36_588_108, 23_816_404_136),
    ("CIFAR-10", "R18", "MIMO"): (11_194_536, 560_756_136),
    ("CIFAR-100", "R50", "MIMO"): (24_325_136, 1_303_990_544),
    ("CIFAR-10", "WR", "MIMO"): (36_509_816, 5_955_496_520),
}


@pytest.mark.parametrize("key", RECOUNT, ids="-".join)
def test_recount(lines, key):
    assert (lines[key].params, lines[key].mult_adds) == RECOUNT[key]


def test_a_deep_ensemble_is_four_singles(lines):
    for (data, net, method), line in lines.items():
        if method == "Deep Ensembles":
            single = lines[data, net, "Single"]
            assert (line.params, line.mult_adds) == (4 * single.params, 4 * single.mult_adds)


def test_what_differs_from_the_paper_is_known(lines):
    assert {key: line.differs for key, line in lines.items() if any(line.differs)} == {
        ("CIFAR-100", "R18", "Packed-Ensembles"): (True, False),
        ("CIFAR-100", "R50", "Single"): (True, False),
        ("CIFAR-100", "R50", "Packed-Ensembles"): (True, False),
        ("CIFAR-100", "WR", "Single"): (True, False),
        ("CIFAR-100", "WR", "Packed-Ensembles"): (False, True),
        ("CIFAR-100", "WR", "Deep Ensembles"): (True, False),
        ("CIFAR-10", "WR", "BatchEnsemble"): (False, True),
        ("CIFAR-100", "WR", "BatchEnsemble"): (True, True),
        ("CIFAR-10", "R18", "MIMO"): (False, True),
        ("CIFAR-10", "R50", "MIMO"): (False, True),
        ("CIFAR-10", "WR", "MIMO"): (False, True),
        ("CIFAR-100", "R18", "MIMO"): (True, True),
        ("CIFAR-100", "R50", "MIMO"): (False, True),
        ("CIFAR-100", "WR", "MIMO"): (True, True),
        ("CIFAR-10", "R18", "Masksembles"): (True, False),
        ("CIFAR-10", "R50", "Masksembles"): (True, False),
        ("CIFAR-100", "WR", "Masksembles"): (True, False),
    }


def test_every_explanation_adds_up(table1, lines):
    checked = 0
    for reason in table1.reasons(list(lines.values())).values():
        for left, right in re.findall(r"((?:[\d,]+ [+x] )+[\d,]+) = ([\d,]+)", reason):
            numbers = left.replace(",", "").replace("x", "*")
            assert eval(numbers) == int(right.replace(",", "")), reason  # noqa: S307 - digits and operators only
            checked += 1
    assert checked >= 20


def test_every_explanation_names_what_is_counted(table1, lines):
    for key, reason in table1.reasons(list(lines.values())).items():
        assert f"{lines[key].params:,}" in reason or f"{lines[key].mult_adds:,}" in reason


def test_the_command_prints_36_lines_and_succeeds(table1, capsys):
    assert table1.main() == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^CIFAR-", printed, re.MULTILINE)) == 36
    assert len(re.findall(r"\d\*", printed)) == 20
