from __future__ import annotations

import json
import math
from typing import Any

from packify.evaluation.results import Bin, ClassificationScores, Comparison, Detection, Evaluation, Histogram, OodScores


def _scores(**changes: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(("accuracy", "nll", "ece", "adaptive_ece", "brier", "aurc"), 0.25)
    bins = tuple(Bin(lower=i / 4, upper=(i + 1) / 4, samples=i, confidence=0.5, accuracy=0.0) for i in range(4))
    return {"samples": 1234, "top_k_accuracy": None, "reliability": bins, "rejection": (1.0,), "exact": True, **numbers, **changes}


def _evaluation(**changes: Any) -> Evaluation:
    rest = {"num_estimators": 3, "disagreement": 0.5, "kl": 0.75, "ood": None, "members": (), "shift": None}
    return Evaluation(**{**_scores(), **rest, **changes})


def _ood() -> OodScores:
    bars = Histogram(edges=(0.0, 1.0), in_distribution=(1.0,), out_of_distribution=(1.0,))

    def found(number: float) -> Detection:
        return Detection(auroc=number, aupr=number + 0.1, fpr95=number + 0.2, in_samples=1, ood_samples=2, exact=True, histogram=bars)

    return OodScores(max_softmax=found(0.1), mutual_information=found(0.2), entropy=found(0.3), max_logit=found(0.4))


def test_what_json_does_not_know_is_none_at_any_depth() -> None:
    deep = _evaluation(nll=math.nan, members=(_evaluation(kl=math.inf),), shift=_evaluation(nll=-math.inf))
    document = json.loads(json.dumps(deep.to_dict(), allow_nan=False))
    assert (document["nll"], document["members"][0]["kl"], document["shift"]["nll"], document["kl"]) == (None, None, None, 0.75)
    assert document["reliability"][3] == {"lower": 0.75, "upper": 1.0, "samples": 3, "confidence": 0.5, "accuracy": 0.0}


def test_conventions_say_how_many_bins_there_are() -> None:
    assert "ECE: 4 equal bins" in _evaluation().conventions
    assert "Adaptive ECE: 4 bins" in ClassificationScores(**_scores()).to_dict()["conventions"]
    assert "{" not in _evaluation().conventions


def test_rows_are_flat_and_have_what_was_measured() -> None:
    found = Comparison({"plain": _evaluation(), "all": _evaluation(shift=_evaluation(nll=2.0), ood=_ood())})
    plain, everything = found.rows()
    assert plain == {
        "name": "plain",
        "members": 3,
        **dict.fromkeys(("accuracy", "nll", "ece", "adaptive_ece", "brier", "aurc"), 0.25),
        "disagreement": 0.5,
        "kl": 0.75,
    }
    assert everything["shift_nll"] == 2.0
    assert (everything["ood_entropy_auroc"], everything["ood_max_logit_fpr95"]) == (0.3, 0.6000000000000001)
    assert not any(isinstance(value, (dict, list, tuple)) for value in everything.values())
    assert found["all"] is found.evaluations["all"]


def test_text() -> None:
    lines = str(_evaluation(shift=_evaluation(), ood=_ood(), num_estimators=1)).splitlines()
    assert lines[0] == "1,234 samples, 1 member"
    assert lines[1] == "accuracy 0.2500, NLL 0.2500, ECE 0.2500 (adaptive 0.2500), Brier 0.2500, AURC 0.2500, disagreement 0.5000"
    assert lines[2] == f"under shift: {lines[1]}"
    assert lines[4] == "OOD by mutual_information: AUROC 0.2000, AUPR 0.3000, FPR95 0.4000"
    assert len(lines) == 7
    assert str(_evaluation()).splitlines()[0] == "1,234 samples, 3 members"
