from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from packify.core.errors import ExportError
from packify.exporting.comparison import compare, jumps


def _network(x: Tensor) -> dict[str, Tensor]:
    return {"probabilities": x.softmax(-1), "prediction": x.argmax(-1)}


def _off(by: float, **changed: Tensor):  # type: ignore[no-untyped-def]
    def file(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        found = _network(tensors[0])
        return {**found, "probabilities": found["probabilities"] + by, **changed}

    return file


BATCHES = [[torch.randn(size, 4)] for size in (1, 2, 5)]


def test_it_tells_how_far() -> None:
    found = compare(_off(1e-5), _network, BATCHES, torch.float32)
    assert [one.batch for one in found] == [1, 2, 5]
    assert all(one.worst.output == "probabilities" for one in found)
    assert all(0.9e-5 < one.worst.max_error < 1.1e-5 for one in found)
    assert jumps("aux_prediction")
    assert not jumps("probabilities")


def test_what_is_too_far() -> None:
    for by, dtype in ((1e-2, torch.float32), (float("nan"), torch.float32), (0.5, torch.bfloat16)):
        with pytest.raises(ExportError, match="probabilities at batch 1"):
            compare(_off(by), _network, BATCHES, dtype)
        assert compare(_off(by), _network, BATCHES, dtype, judge=False)
    compare(_off(0, prediction=torch.zeros(1)), _network, BATCHES[:1], torch.float32)  # a class may jump


def test_files_that_give_something_else() -> None:
    with pytest.raises(ExportError, match="one batch size"):
        compare(_off(0, probabilities=torch.zeros(1, 3)), _network, BATCHES, torch.float32)
    with pytest.raises(ExportError, match="no such output"):
        compare(lambda tensors: {}, _network, BATCHES, torch.float32)

    def fail(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        raise RuntimeError("shapes")

    for batches, fix in ((BATCHES, "one batch size"), (BATCHES[:1], "another format")):
        with pytest.raises(ExportError, match=f"RuntimeError: shapes(.|\n)*{fix}"):
            compare(fail, _network, batches, torch.float32)


def test_numbers_that_are_none() -> None:
    with pytest.raises(ExportError, match="NaN or infinite"):
        compare(_off(0), lambda x: {"probabilities": x * float("nan")}, BATCHES, torch.float32)
