"""An artefact published on a hub of models, with its card, in one commit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packify.artefact.cards import model_card, written_beside
from packify.artefact.config import CARD_FILE, CONFIG_FILE, INDEX_FILE, SHARD_FILE, WEIGHTS_FILE, Config, read_config
from packify.artefact.fetching import hub_error, told_once
from packify.artefact.names import PREFIX, hub_name
from packify.artefact.saving import save
from packify.artefact.weights import file_sha256, read_index, weights_files
from packify.core.errors import ArtefactError
from packify.core.version import __version__
from packify.nn.packed_network import PackedNetwork
from packify.sources import Source

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def push_to_hub(
    artefact: PackedNetwork | str | Path,
    repo_id: str,
    *,
    source: Source | None = None,
    private: bool | None = None,
    revision: str | None = None,
    message: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    **card: Any,
) -> str:
    """Publish an artefact, with its card, in one commit; a repository that is not there is made.

    Args:
        artefact: the folder of an artefact, or a packed network, which is saved first.
        repo_id: ``"user/name"``.
        source: where the reference of a packed network came from, as for `packify.save`.
        private: whether a new repository is.
        revision: the branch; ``main`` by default.
        message: of the commit.
        token: as huggingface_hub takes it; by default the one that is logged in.
        endpoint: of the hub; by default that of huggingface_hub (``HF_ENDPOINT``).
        card: what `packify.write_card` takes (evaluation, dataset, license, model); without a `README.md` in the folder one is made.

    Returns:
        What loads it: ``"hf-hub:user/name"``.

    Raises:
        ArtefactError: there is no artefact, its files do not fit together, or the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    repo_id, _ = hub_name(f"{PREFIX}{repo_id}")
    with tempfile.TemporaryDirectory(prefix="packify-") as temporary:
        folder = Path(artefact) if not isinstance(artefact, PackedNetwork) else save(artefact, Path(temporary) / "net", source=source)
        files = _whole(folder, read_config(folder))
        if not (folder / CARD_FILE).is_file() or card:
            text = model_card(folder, repo_id=repo_id, **card)
            own = Path(temporary) / CARD_FILE
            written_beside(own, text)
            files.append(own)
        else:
            files.append(folder / CARD_FILE)
        api = HfApi(endpoint=endpoint, token=token, library_name="packify", library_version=__version__)
        try:
            with told_once():
                _commit(api, repo_id, files, private, revision, message or f"packify {__version__}: {folder.resolve().name}")
        except Exception as error:  # the hub's library raises what its network libraries do
            raise hub_error(repo_id, error, "published") from error
    return f"{PREFIX}{repo_id}" + (f"@{revision}" if revision else "")


def _commit(api: HfApi, repo_id: str, files: list[Path], private: bool | None, revision: str | None, message: str) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api.create_repo(repo_id, private=private, exist_ok=True)
    if revision:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    names = {file.name for file in files}
    stale = [name for name in api.list_repo_files(repo_id, revision=revision) if _is_weights(name) and name not in names]
    operations: list[Any] = [CommitOperationAdd(file.name, str(file)) for file in files]
    operations += [CommitOperationDelete(name) for name in stale]
    api.create_commit(repo_id, operations, commit_message=message, revision=revision)


def _is_weights(name: str) -> bool:
    return name in (WEIGHTS_FILE, INDEX_FILE) or SHARD_FILE.fullmatch(name) is not None


def _whole(folder: Path, config: Config) -> list[Path]:
    """The files of an artefact, the weights checked against config.json."""
    files = weights_files(folder, config)
    digests = {config.weights_file: config.weights_sha256}
    if config.weights_file == INDEX_FILE:
        digests |= read_index(files[0])[0]
    for file in files:
        if not file.is_file() or file_sha256(file) != digests[file.name]:
            raise ArtefactError(
                str(file),
                found="another SHA-256 than was saved" if file.is_file() else "no such file",
                why="what is published must be what was saved",
                fix="save the artefact again",
            )
    return [folder / CONFIG_FILE, *files]
