"""A part of a model as a Packed-Ensemble, for models with Python control flow around a trunk that can be recorded."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from packify.capture.unwrapping import unwrap
from packify.core.errors import PackError
from packify.ensembles.shortcuts import pack


def pack_submodule(model: nn.Module, name: str, example_inputs: Any, **settings: Any) -> nn.Module:
    """A copy of `model` whose submodule `name` is packed; for models with Python control flow around a traceable trunk.

    In evaluation mode the packed part returns the members' average, so that the rest of the model works as before; in training
    mode it returns ``"(m b) ..."``. The packed part, ``model.get_submodule(name)``, is what `packify.verify` checks.

    Args:
        model: the whole model; it is not changed.
        name: the submodule's dotted name.
        example_inputs: the submodule's own.
        settings: as for `pack`: ``alpha``, ``num_estimators``, ``gamma``, ``seed``, ``leaves`` and so on; ``average`` is ``"mean"``.

    Raises:
        PackError: there is no such submodule.
    """
    model = unwrap(model)
    try:
        part = model.get_submodule(str(name))
    except AttributeError as error:
        children = ", ".join(child for child, _ in model.named_children())
        raise PackError(
            f"submodule {name!r}",
            found=str(error),
            why=f"{type(model).__name__} has the children {children}",
            fix="pass one of these names, or a dotted path",
        ) from error
    if not name:
        raise PackError("submodule ''", found="an empty name", why="that is the whole model", fix="call packify.pack(model, ...)")
    settings.setdefault("average", "mean")
    packed = pack(part, example_inputs, **settings)
    memo: dict[int, Any] = {id(part): packed}
    changed: nn.Module = copy.deepcopy(model, memo)
    return changed
