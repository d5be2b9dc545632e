from __future__ import annotations

import json

from packify.core.report import KindScheme, LayerWidth, Note, Report
from packify.core.spec import Spec


def _layer(gamma: int) -> LayerWidth:
    return LayerWidth("conv", "conv2d", 3, 64, 3, 32, gamma, gamma, 2)


def test_a_report_reads_as_text() -> None:
    report = Report(Spec(1.5, 3, 2), [_layer(1), _layer(2)], reference_params=1000, member_params=260, packed_params=780)
    report.averages = {"": "probs"}
    assert str(report).splitlines() == [
        "Packed-Ensemble PE-(1.5, 3, 2), gamma policy 'paper'",
        "parameters: reference 1,000, member 260, packed 780 (0.780 of the reference)",
        "layers: 2; gamma > 1 on 1",
        "average of the output: probs",
    ]


def test_long_lists_are_cut_and_counted() -> None:
    report = Report(Spec(2, 4), pins=[Note(f"layer{index}", "net.py:3", "keeps 10", "classes") for index in range(11)])
    lines = str(report).splitlines()
    assert "pinned: 11" in lines
    assert "  layer7: keeps 10 (classes)" in lines
    assert "  layer8: keeps 10 (classes)" not in lines
    assert "  ... and 3 more" in lines


def test_relayouts_say_their_bytes() -> None:
    report = Report(Spec(2, 4), relayouts=[Note("fc", "", "members from axis 1 to 0", "linear reads them there")], relayout_bytes=12_345)
    assert "relayouts, 12,345 bytes a sample: 1" in str(report).splitlines()
    assert report.to_dict()["relayout_bytes"] == 12_345
    assert "relayouts" not in str(Report(Spec(2, 4)))


def test_kinds_name_the_odd_ones() -> None:
    odd = {f"layer{index}.weight": "constant 0" for index in range(5)}
    text = str(KindScheme("Conv2d weight", "normal, std 0.02", 20, odd))
    assert text.startswith("Conv2d weight (20): normal, std 0.02; but layer0.weight: constant 0, ")
    assert text.endswith(" and 2 more")
    assert str(KindScheme("bias", "constant 0", 3)) == "bias (3): constant 0"


def test_a_report_is_json() -> None:
    report = Report(Spec(2, 4, constants={"a": 2}), [_layer(1)], notes=[Note("a", "", "b", "c")], schemes=[KindScheme("k", "s", 1)])
    document = json.loads(json.dumps(report.to_dict()))
    assert document["layers"][0]["member_out"] == 32
    assert document["notes"] == [{"node": "a", "source": "", "what": "b", "why": "c"}]
