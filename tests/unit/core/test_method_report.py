from __future__ import annotations

import json

from packify.core.method_report import MethodLayer, MethodReport
from packify.core.method_specs import BatchEnsembleSpec
from packify.core.report import Note


def test_a_report_says_what_was_done_and_what_does_not_hold() -> None:
    report = MethodReport(BatchEnsembleSpec(4), reference_params=100, params=120, does_not_hold=("training one alone",))
    report.layers.append(MethodLayer("fc", "linear", 3, 2, "r, s", 20))
    report.left_out += [Note(f"layer{number}", "", "stays as it is", "why") for number in range(9)]
    report.relayouts, report.relayout_bytes = [Note("fc", "", "members from axis 1 to 0", "")], 1234
    text = str(report)
    assert "relayouts, 1,234 bytes a sample: 1" in text
    assert "batch-ensemble: num_estimators 4" in text
    assert "(1.200 of the reference)" in text
    assert "... and 1 more" in text
    assert "does not hold: training one alone" in text
    assert json.loads(json.dumps(report.to_dict()))["spec"]["method"] == "batch-ensemble"
    assert report.packed_params == 120
