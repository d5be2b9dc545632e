from __future__ import annotations

from typing import Any

import pytest

from packify.core.errors import SpecError
from packify.distributed.placement import Placement, place_members


def test_members_by_number() -> None:
    assert [list(Placement(6, 3, group, 2).members) for group in range(3)] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("mesh", [None, 4, "member=2", object()])
def test_what_is_no_mesh(mesh: Any) -> None:
    with pytest.raises(SpecError, match="init_device_mesh"):
        place_members(mesh, 4)
