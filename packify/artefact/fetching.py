"""An artefact fetched from a hub of models, file by file, and what can go wrong there. What a hub holds is data, never code."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from packify.artefact.config import CONFIG_FILE, WEIGHTS_FILE, read_config
from packify.artefact.names import hub_name
from packify.artefact.weights import read_index
from packify.core.errors import ArtefactError
from packify.core.version import __version__


def fetch(name: str) -> Path:
    """The folder of an artefact of a hub, its files fetched where they are not in the hub's cache.

    Args:
        name: ``"hf-hub:user/name"``, or ``"hf-hub:user/name@revision"``.

    Raises:
        ArtefactError: the hub cannot be reached, or holds no artefact of that name.
    """
    from huggingface_hub import hf_hub_download

    repo_id, revision = hub_name(name)
    get = functools.partial(hf_hub_download, repo_id, library_name="packify", library_version=__version__)
    try:
        with told_once():
            folder = Path(str(get(CONFIG_FILE, revision=revision))).parent
            config = read_config(folder)  # nothing large is fetched for what is no artefact
            revision = folder.name if _COMMIT.fullmatch(folder.name) else revision  # all files of one commit
            first = Path(str(get(config.weights_file, revision=revision)))
            for shard in () if config.weights_file == WEIGHTS_FILE else read_index(first)[0]:
                get(shard, revision=revision)
    except ArtefactError as error:
        raise ArtefactError(
            name, found=error.found, why=error.why, fix=f"pass a repository that packify.push_to_hub wrote ({error.where})"
        ) from error
    except Exception as error:  # the hub's library raises what its network libraries do
        raise hub_error(repo_id, error, "fetched") from error
    return folder


_COMMIT = re.compile(r"[0-9a-f]{40}")


@contextlib.contextmanager
def told_once() -> Iterator[None]:
    """The hub's library warns of every try that failed; what came of them is told by one error (with HF_DEBUG=1 by both)."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    if before != logging.DEBUG:
        logger.setLevel(max(before, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(before)


def hub_error(repo_id: str, error: BaseException, done: str) -> ArtefactError:
    """An error of the hub's library, or of the network below it, as one with the four parts."""
    kinds = {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}
    found = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"[:300]
    unknown = (f"the artefact could not be {done}", "try again later, or with HF_DEBUG=1 for what the hub's library does")
    reasons = (*_WHILE_PUBLISHING, *_REASONS) if done == "published" else _REASONS
    why, fix = next(((why, fix) for names, why, fix in reasons if kinds & names), unknown)
    return ArtefactError(f"hf-hub:{repo_id}", found=found, why=why, fix=fix)


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found


_UNREACHABLE = frozenset("LocalEntryNotFoundError ConnectError ConnectTimeout ConnectionError TimeoutException URLError".split())
# By the name of an error: what is said otherwise where nothing is fetched.
_WHILE_PUBLISHING = (
    (
        frozenset(("OfflineModeIsEnabled",)),
        "the hub is switched off by HF_HUB_OFFLINE, and nothing was published",
        "unset HF_HUB_OFFLINE, and publish again",
    ),
    (_UNREACHABLE, "the hub cannot be reached, and nothing was published", "connect to the internet, and publish again"),
)
# By the name of an error, the most telling first: the network library below the hub's has changed before.
_REASONS: tuple[tuple[frozenset[str], str, str], ...] = (
    (
        frozenset(("GatedRepoError",)),
        "its owner gives access on request",
        "ask for access on its page, and log in: hf auth login",
    ),
    (
        frozenset(("RepositoryNotFoundError",)),
        "there is no such repository, or it is private and you are not logged in",
        "check the name; for a private one: hf auth login",
    ),
    (
        frozenset(("RevisionNotFoundError",)),
        "the repository has no such revision",
        "leave @revision out, or pass a branch, a tag or a commit",
    ),
    (
        frozenset(("OfflineModeIsEnabled",)),
        "the hub is switched off by HF_HUB_OFFLINE, and there is no copy of it here",
        "unset HF_HUB_OFFLINE once, so that a copy is kept (HF_HOME says where)",
    ),
    (
        frozenset(("RemoteEntryNotFoundError",)),
        "the repository holds no such file, so it is no artefact of packify's",
        "pass a repository that packify.push_to_hub wrote",
    ),
    (
        _UNREACHABLE,
        "the hub cannot be reached, and there is no copy of it here",
        "connect to the internet once, so that a copy is kept (HF_HOME says where)",
    ),
    (
        frozenset(("HfHubHTTPError", "HTTPError")),
        "the hub refused",
        "check that you are logged in and may write there: hf auth login",
    ),
    (frozenset(("OSError",)), "a file could not be written or read", "free some space where HF_HOME says, and check its permissions"),
)
