"""The kind of outputs, and the options that each kind takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from packify.core.errors import SpecError
from packify.evaluation.class_task import ClassTask
from packify.evaluation.label_task import LabelTask
from packify.evaluation.regression_task import RegressionTask
from packify.evaluation.tasks import kind_of, task_of

_LEFT_OUT: dict[str, Any] = {
    "ignore_index": None,
    "num_bins": 15,
    "top_k": None,
    "outputs": "logits",
    "class_axis": None,
    "variance": "positive",
    "temperature": 1.0,
}


def _task(kind: Any, **options: Any) -> Any:
    return task_of(kind, output=None, max_scores=100, **{**_LEFT_OUT, **options})


def test_each_kind_has_its_task() -> None:
    kinds = {"classification": ClassTask, "multilabel": LabelTask, "regression": RegressionTask, "gaussian": RegressionTask}
    assert all(type(_task(kind)) is task for kind, task in kinds.items())
    assert _task("gaussian").halved
    assert not _task("regression").halved
    assert _task("classification", top_k=5, ignore_index=255).top_k == 5
    assert _task("multilabel", ignore_index=-1).ignore_index == -1
    assert _task("gaussian", variance="log").variance == "log"


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("classification", {"variance": "log"}),
        ("multilabel", {"temperature": 2.0}),
        ("multilabel", {"temperature": {"a": 2.0}}),
        ("regression", {"ignore_index": 0}),
        ("gaussian", {"outputs": "probabilities"}),
        ("gaussian", {"class_axis": 1}),
    ],
)
def test_options_without_a_meaning_are_no_silence(kind: str, option: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="leave"):
        _task(kind, **option)


def test_kinds_that_averages_tell() -> None:
    def network(average: Any) -> Any:
        return SimpleNamespace(num_estimators=2, members=lambda x: x, average=average)

    single = SimpleNamespace()
    assert kind_of([[network("probs")], [single]], None) == "classification"
    assert kind_of([[network("mean")]], None) == "classification"
    assert kind_of([[network("sigmoid")], [single]], None) == "multilabel"
    assert kind_of([[network({"a": "gaussian", "b": "probs"})]], "a") == "gaussian"
    assert kind_of([[network({"a": "gaussian", "b": "probs"})]], None) == "classification"
    with pytest.raises(SpecError, match="gaussian, multilabel"):
        kind_of([[network("sigmoid"), network("gaussian")]], None)
