from __future__ import annotations

from pathlib import Path

import pytest

from packify.artefact.names import hub_name, is_hub_name
from packify.core.errors import ArtefactError


def test_names() -> None:
    assert hub_name("hf-hub:me/net") == ("me/net", None)
    assert hub_name("hf-hub:me/net.v1@refs/pr/3") == ("me/net.v1", "refs/pr/3")
    assert is_hub_name(Path("hf-hub:me/net"))
    assert not is_hub_name("nets/hf-hub")


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:net", "hf-hub:a/b/c", "hf-hub:../x", "hf-hub:a/..", "hf-hub:a/b@../..", "hf-hub:-a/b"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ArtefactError, match="user/name"):
        hub_name(name)
