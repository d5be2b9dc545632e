"""Fourier transforms: frequencies are counted, other axes keep their width."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from packify.ops import spectral
from tests.unit.ops.calls import SPECTRAL, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, single


@pytest.mark.parametrize("name", SPECTRAL)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*SPECTRAL[name])


@pytest.mark.parametrize("name", SPECTRAL)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*SPECTRAL[name])


@pytest.mark.parametrize(
    ("sizes", "dim", "axes"),
    [(None, None, [0, 1, 2]), ((4,), None, [2]), ((4, 5), None, [1, 2]), (None, (0, -1), [0, 2]), ((4,), (1,), [1])],
)
def test_the_axes_that_are_transformed(sizes: Any, dim: Any, axes: list[int]) -> None:
    assert spectral.transformed(3, sizes, dim) == axes


@pytest.mark.parametrize("name", [*spectral.ONE_AXIS, *spectral.TWO_AXES, *spectral.ANY_AXES, *spectral.SHIFTS])
def test_every_transform_has_a_row_and_keeps_the_axes_that_it_leaves_alone(name: str) -> None:
    function = getattr(torch.fft, name.removeprefix("fft_"))
    tensor = real(3, 4) if "rfft" in name[4:8] or "ihfft" in name else torch.complex(real(3, 4), real(3, 4))
    walk, dims = dims_of(single(function, tensor, dim=(1,) if name in (*spectral.TWO_AXES, *spectral.ANY_AXES, *spectral.SHIFTS) else 1))
    assert dims[0].root() is walk.parameters.dims["t0"][0].root()
    assert not dims[0].is_pinned()
    assert dims[1].is_pinned() == ("rfft" in name or "hfft" in name)


def test_two_frequencies_of_two_numbers_are_counted() -> None:
    _, dims = dims_of(single(torch.fft.rfft, real(3, 2)))
    assert dims[1].is_pinned()
