"""What an artefact is called: a folder's path, or ``"hf-hub:user/name"``, perhaps with ``"@revision"``."""

from __future__ import annotations

import re
from pathlib import Path

from packify.core.errors import ArtefactError

PREFIX = "hf-hub:"
# What the hub allows; a revision is a branch, a tag or a commit.
_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.\-]{0,95}/[A-Za-z0-9][\w.\-]{0,95})(?:@(?P<revision>[\w.\-/]{1,200}))?", re.ASCII)


def is_hub_name(name: str | Path) -> bool:
    """Whether an artefact is on a hub."""
    return str(name).startswith(PREFIX)


def hub_name(name: str) -> tuple[str, str | None]:
    """``"hf-hub:user/name@v1"`` as ``("user/name", "v1")``.

    Raises:
        ArtefactError: it is no such name.
    """
    match = _NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None or ".." in name or "--" in name.partition("@")[0]:
        raise ArtefactError(
            name, found="no name of a repository", why="it is user/name, perhaps with @revision", fix='pass "hf-hub:user/name"'
        )
    return match["repo"], match["revision"]
