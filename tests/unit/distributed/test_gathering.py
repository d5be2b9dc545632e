from __future__ import annotations

import torch

from packify.distributed.gathering import gathered


def test_one_process_needs_nobody() -> None:
    tensors = [torch.randn(2, 3), torch.zeros(2, dtype=torch.bool)]
    found = gathered(tensors, None, 1)
    assert [tuple(tensor.shape) for tensor in found] == [(1, 2, 3), (1, 2)]
    assert torch.equal(found[0][0], tensors[0])


def test_several_dtypes_of_two_processes(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def both(out: torch.Tensor, own: torch.Tensor, group: object) -> None:
        out.copy_(torch.cat([own, own]))

    monkeypatch.setattr("torch.distributed.all_gather_into_tensor", both)
    tensors = [torch.randn(2, 3), torch.tensor([True, False]), torch.randn(4), torch.arange(3)]
    for found, own in zip(gathered(tensors, None, 2), tensors, strict=True):
        assert torch.equal(found, torch.stack([own, own]))
        assert found.dtype == own.dtype
