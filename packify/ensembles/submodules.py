"""Parts of a model as one Packed-Ensemble, for models with Python control flow between parts that can be recorded.

    images --backbone--> features --Python--> --head--> scores --Python--> boxes
           b               (m b)                (m b)      b

Members stay apart from the first part to the last; only the last part averages.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from packify.budgets.cost import Budget
from packify.capture.meta import meta_copy
from packify.capture.unwrapping import unwrap
from packify.core.errors import PackError
from packify.ensembles.shortcuts import budget, pack
from packify.nn.packed_network import PackedNetwork


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
    part = _part(model, name)
    settings.setdefault("average", "mean")
    return _with_parts(model, {name: _with_members_of(pack(part, example_inputs, **settings), part)})


def pack_submodules(
    model: nn.Module, names: Sequence[str], example_inputs: Any, *, average: Any = None, inputs: str = "independent", **settings: Any
) -> nn.Module:
    """A copy of `model` whose parts `names`, which feed each other with Python code between them, are packed as one ensemble.

    Members stay apart from the first part to the last: features cross as ``"(m b) ..."``, and only the last part averages, so that in
    evaluation mode the model takes and gives what it did. In training mode it takes ``"(m b)"`` samples and as many targets, one batch
    per member: ``model(images * M, targets * M)`` trains all members on one batch.

    Args:
        model: the whole model; it is not changed.
        names: the parts' dotted names, in the order in which data goes through them. The code between them must treat samples alike.
        example_inputs: what each part is called with, by its name (a tensor, a tuple or a dict each); or the model's own, which is then
            run once in evaluation mode to see what its parts are called with.
        average: of the last part, as for `pack`.
        inputs: ``"independent"``: the first part takes ``"(m b) ..."`` in training mode; ``"shared"``: it takes one batch for all members
            there too, and gives ``"(m b) ..."``.
        settings: of all parts, as for `pack`: ``alpha``, ``num_estimators``, ``gamma``, ``seed``, ``leaves`` and so on.

    Raises:
        PackError: there is no such part, or it is not called, or it lies in another.
        SpecError, TraceError: as from `pack`.
    """
    model = unwrap(model)
    examples = _examples(model, names, example_inputs)
    packed: dict[str, PackedNetwork] = {}
    for name in names:
        last = name == names[-1]
        part = pack(_part(model, name), examples[name], average=average if last else "mean", **settings)
        part.gives_members, part.takes_members = not last, name != names[0]
        part.inputs = "independent" if part.takes_members or inputs == "independent" else inputs  # type: ignore[assignment]
        packed[name] = _with_members_of(part, _part(model, name))
    return _with_parts(model, packed)


def extract_submodules(model: nn.Module, member: int) -> nn.Module:
    """A copy of a model with packed parts that has one member in place of each: an ordinary model, for what members say on their own.

    Raises:
        PackError: the model has no packed parts, or no such member.
    """
    parts = _packed_parts(model)
    if not parts:
        raise PackError(
            type(model).__name__,
            found="no packed parts",
            why="members are those of parts that `pack_submodules` has packed",
            fix="pass what pack_submodules returned; of a network packed as a whole, call packed.extract(m)",
        )
    members = {name: part.extract(member) for name, part in parts.items()}
    for name, network in members.items():
        network.train(parts[name].training)
        _with_members_of(network, parts[name])
    return _with_parts(model, members)


@dataclass(frozen=True)
class SubmodulesBudget:
    """What packing several parts of a model costs.

    Attributes:
        parts: the budget of each, by name; Mult-Adds are those of one sample of the part's own inputs.
        other_params: parameters outside all parts, which stay as they are.
    """

    parts: Mapping[str, Budget]
    other_params: int

    @property
    def reference_params(self) -> int:
        """Parameters of the model as it is."""
        return self.other_params + sum(part.reference.params for part in self.parts.values())

    @property
    def packed_params(self) -> int:
        """Parameters of the model with its parts packed."""
        return self.other_params + sum(part.packed.params for part in self.parts.values())

    @property
    def reference_mult_adds(self) -> int:
        """Mult-Adds of all parts as they are."""
        return sum(part.reference.mult_adds for part in self.parts.values())

    @property
    def packed_mult_adds(self) -> int:
        """Mult-Adds of all parts packed."""
        return sum(part.packed.mult_adds for part in self.parts.values())


def budget_submodules(model: nn.Module, names: Sequence[str], example_inputs: Any, **settings: Any) -> SubmodulesBudget:
    """What `pack_submodules` would cost, before anything is built: the parts' budgets and their sums.

    Args:
        model, names, example_inputs: as for `pack_submodules`.
        settings: as for `budget`.

    Raises:
        PackError, SpecError, TraceError, BudgetError: as from `pack_submodules` and `budget`.
    """
    model = unwrap(model)
    examples = _examples(model, names, example_inputs)
    parts = {name: budget(_part(model, name), examples[name], **settings) for name in names}
    inside = {id(parameter) for name in names for parameter in model.get_submodule(name).parameters()}
    other = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in inside)
    return SubmodulesBudget(parts, other)


def _part(model: nn.Module, name: str) -> nn.Module:
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
    return part


def _with_members_of(network: Any, part: nn.Module) -> Any:
    """Give a network what the code around `part` may ask of it besides calling it: settings, and methods that need none of its tensors.

    A detector's head knows its loss, for example, and a backbone its ``out_channels``. The methods are those of a copy of the part that
    holds no data.
    """
    if isinstance(part, PackedNetwork):
        own = {name: value for name, value in vars(part).items() if name in vars(part).get("of_the_reference", ())}
    else:
        bare = meta_copy(part)
        names = {name for name in (*dir(type(part)), *vars(part)) if not name.startswith("_") and not hasattr(nn.Module, name)}
        own = {name: getattr(bare, name) for name in sorted(names) if not hasattr(network, name)}
    vars(network).update(own, of_the_reference=tuple(own))
    return network


def _with_parts(model: nn.Module, parts: Mapping[str, nn.Module]) -> nn.Module:
    memo: dict[int, Any] = {id(model.get_submodule(name)): part for name, part in parts.items()}
    changed: nn.Module = copy.deepcopy(model, memo)
    return changed


def _packed_parts(model: nn.Module) -> dict[str, PackedNetwork]:
    return {name: part for name, part in model.named_modules() if name and isinstance(part, PackedNetwork)}


def _examples(model: nn.Module, names: Sequence[str], given: Any) -> dict[str, Any]:
    """What each part is called with."""
    _require_apart(model, names)
    by_name = isinstance(given, Mapping) and bool(given) and set(given) <= set(names)
    examples: dict[str, Any] = dict(given) if by_name else _observed(model, names, given)
    for name in names:
        if name not in examples:
            raise PackError(
                f"submodule {name!r}",
                found="no example inputs" if by_name else "no call of it while the model ran on its example inputs",
                why="a part is recorded with what it is called with",
                fix=f'pass example_inputs={{"{name}": ..., ...}} for every part',
            )
    return examples


def _require_apart(model: nn.Module, names: Sequence[str]) -> None:
    if isinstance(names, str) or not names or len(set(names)) < len(names):
        raise PackError(
            f"names {names!r}", found=repr(names), why="parts are given in the order of data, each once", fix='pass ["backbone", "head"]'
        )
    for name in names:
        part = _part(model, name)
        inside = [other for other in names if other != name and _part(model, other) in set(part.modules())]
        if inside:
            raise PackError(
                f"submodule {name!r}",
                found=f"{inside[0]!r} lies in it",
                why="a part is packed with everything in it",
                fix=f"leave out {inside[0]!r}, or {name!r}",
            )


def _observed(model: nn.Module, names: Sequence[str], given: Any) -> dict[str, Any]:
    """What parts are called with in one run of a copy of the model: of tensors only their shapes, dtypes and devices will count."""
    model = copy.deepcopy(model).eval()
    seen: dict[str, Any] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.setdefault(name, _named(module, args, kwargs))

        return hook

    for name in names:
        model.get_submodule(name).register_forward_pre_hook(note(name), with_kwargs=True)
    with torch.no_grad():
        if isinstance(given, Mapping):
            model(**given)
        else:
            model(*given) if isinstance(given, tuple) else model(given)
    return seen


def _named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call's arguments in the form in which example inputs are given."""
    if not kwargs:
        return args
    return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
