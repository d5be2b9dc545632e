"""timm's architectures by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from torch import nn

from packify.core.errors import SourceError
from packify.sources.registry import Published, Wanted

_DEFAULT_SIZE = (3, 224, 224)


class TimmRegistry:
    """timm, asked for architectures; for published weights only by `pretrained`, which a user asks for by name."""

    def names(self) -> list[str]:
        return list(timm.list_models())

    def knows(self, name: str) -> bool:
        return bool(timm.is_model(name))

    def arguments(self, name: str, wanted: Wanted) -> list[dict[str, Any]]:
        published = self.input_size(name)
        plain: dict[str, Any] = {}
        if wanted.num_classes is not None:
            plain["num_classes"] = wanted.num_classes
        if wanted.in_chans is not None and wanted.in_chans != published[0]:
            plain["in_chans"] = wanted.in_chans
        if wanted.input_size is None or len(wanted.input_size) != 3 or wanted.input_size[1:] == published[1:]:
            return [plain]
        # Networks with a position embedding are built for one size, the others take any.
        return [{**plain, "img_size": wanted.input_size[1:]}, plain]

    def build(self, name: str, args: Mapping[str, Any]) -> nn.Module:
        model = timm.create_model(name, pretrained=False, **args)
        if not isinstance(model, nn.Module):
            raise TypeError(f"timm built a {type(model).__name__}")
        return model

    def pretrained(self, name: str, args: Mapping[str, Any]) -> Published:
        try:
            model = timm.create_model(name, pretrained=True, **args)
        except Exception as error:  # timm and its hub raise what their network libraries do
            raise SourceError(
                f"timm:{name}",
                found=f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"[:400],
                why="its published weights could not be fetched, and there is no copy of them here"
                if _is_offline(error)
                else "there are no published weights for it, or they do not fit what was asked for",
                fix="connect to the internet once, so that a copy is kept (HF_HOME says where); or load a file of your own: "
                'packify.pack(trained, x, ..., weights="inherit")',
            ) from error
        config = getattr(model, "pretrained_cfg", None) or {}
        channels = args.get("in_chans", len(config.get("mean") or ()))
        mean, std = (tuple(map(float, config.get(key) or ())) for key in ("mean", "std"))
        return Published(model, *((mean, std) if len(mean) == len(std) == channels > 0 else (None, None)))

    def input_size(self, name: str) -> tuple[int, ...]:
        published = timm.get_pretrained_cfg(name)
        return tuple(published.input_size) if published is not None else _DEFAULT_SIZE


def _is_offline(error: BaseException | None) -> bool:
    """Some error behind this one is of a connection, of a name that is not resolved, or of a hub that is switched off."""
    while error is not None:
        names = {kind.__name__ for kind in type(error).__mro__}
        if isinstance(error, (ConnectionError, TimeoutError)) or names & _OFFLINE:
            return True
        error = error.__cause__ or error.__context__
    return False


_OFFLINE = frozenset(
    "LocalEntryNotFoundError OfflineModeIsEnabled ConnectError ConnectTimeout ConnectionError URLError HfHubHTTPError".split()
)
