"""Which way each parameter of a network is drawn: its recipe, its layer type's reset, or the scheme of its kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from packify.core.report import Note
from packify.nn.pooling import pooled_schemes
from packify.nn.recipes import Recipe, recipe_of
from packify.nn.resets import can_reset, reset_name
from packify.nn.schemes import Scheme
from packify.nn.statistics import Facts, facts_of, is_orthogonal

# Of the weights that can be judged, the share that must look trained for the network to be.
_TRAINED = 0.5


@dataclass
class Choice:
    """The way of every parameter.

    Attributes:
        recipes: by module and attribute, for what was seen being filled.
        resets: by module the attributes that the layer type's own reset draws.
        schemes: by name, for the others.
        own: by name, the function of the user's that filled it.
        notes: for the report.
        reset_names: what the report calls a module's reset.
    """

    recipes: dict[str, dict[str, Recipe]] = field(default_factory=dict)
    resets: dict[str, list[str]] = field(default_factory=dict)
    schemes: dict[str, Scheme] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    reset_names: dict[str, str] = field(default_factory=dict)

    def label(self, name: str) -> str:
        """How a parameter is drawn, for the report."""
        path, _, attribute = name.rpartition(".")
        if name in self.own:
            return f"{self.own[name]} (a function given as init)"
        if attribute in self.recipes.get(path, {}):
            return self.recipes[path][attribute].label
        return self.schemes[name].name if name in self.schemes else self.reset_names[path]

    def give_up(self, path: str, module: nn.Module) -> None:
        """Draw a module's tensors by what their numbers show, instead of by their recipes."""
        names = {f"{path}.{attribute}" if path else attribute: attribute for attribute in self.recipes.pop(path)}
        facts = [facts_of(name, module.get_parameter(attribute), module, some_train=False) for name, attribute in names.items()]
        self.schemes |= pooled_schemes(facts)


def choose(reference: nn.Module, names: Sequence[str], init: object) -> Choice:
    """The way of each of these parameters.

    Args:
        reference: the network.
        names: of the parameters to draw.
        init: ``"reset"`` takes each layer type's own reset where there is one; anything else the reference's schemes.
    """
    choice = Choice()
    tensors, modules = dict(reference.named_parameters(remove_duplicate=False)), dict(reference.named_modules(remove_duplicate=False))
    places = {name: (name.rpartition(".")[0], name.rpartition(".")[2]) for name in names}
    recipes = {name: recipe for name, (path, attribute) in places.items() if (recipe := recipe_of(modules[path], attribute)) is not None}
    unchanged = {name for name, recipe in recipes.items() if tensors[name]._version == recipe.version}
    facts = _facts(tensors, modules, [name for name in names if name not in unchanged or init == "reset"])
    trained = init != "reset" and _is_trained(list(facts.values())) and _are_most(facts, tensors, names)
    if trained:
        choice.notes.append(_trained_note(reference, bool(recipes)))
    waiting: list[str] = []
    for name, (path, attribute) in places.items():
        fixed = facts[name].fixed if name in facts else None
        if fixed is not None and fixed.distribution in ("copied", "identity") and name not in unchanged:
            choice.schemes[name] = fixed
        elif init != "reset" and name in recipes and (trained or name in unchanged):
            choice.recipes.setdefault(path, {})[attribute] = recipes[name]
        elif (trained or init == "reset") and can_reset(modules[path]):
            choice.resets.setdefault(path, []).append(attribute)
            choice.reset_names[path] = reset_name(modules[path])
        elif name in recipes and init == "reset":
            choice.recipes.setdefault(path, {})[attribute] = recipes[name]
        else:
            waiting.append(name)
    left = [facts[name] for name in waiting]
    choice.schemes |= _spread_only(left) if trained else _pooled(left, list(facts.values()), tensors)
    return choice


def _facts(tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module], names: Sequence[str]) -> dict[str, Facts]:
    some_train = any(tensor.requires_grad for tensor in tensors.values())
    return {name: facts_of(name, tensors[name], modules[name.rpartition(".")[0]], some_train=some_train) for name in names}


def _pooled(waiting: Sequence[Facts], everything: Sequence[Facts], tensors: Mapping[str, Tensor]) -> dict[str, Scheme]:
    """One scheme per kind; what is orthogonal is no draw of single numbers."""
    found = pooled_schemes(everything)
    schemes = {fact.name: found[fact.name] for fact in waiting}
    for fact in waiting:
        if fact.fixed is None and fact.distribution == "normal" and tensors[fact.name].dim() > 1 and not tensors[fact.name].is_complex():
            gain = is_orthogonal(tensors[fact.name].to("cpu"))
            if gain:
                schemes[fact.name] = Scheme("orthogonal", gain=gain)
    return schemes


def _spread_only(facts: Sequence[Facts]) -> dict[str, Scheme]:
    """For tensors of no layer in a trained network: as wide as they are now; vectors start at their mean."""
    return {
        fact.name: fact.fixed or (Scheme("normal", 0.0, fact.std) if fact.drawn is not None else Scheme("constant", fact.mean))
        for fact in facts
    }


def _is_trained(facts: Sequence[Facts]) -> bool:
    """Most weights are no longer as they were drawn, or most norms no longer hold one number."""
    judged = [fact.drawn for fact in facts if fact.drawn is not None and fact.fixed is None]
    return bool(judged) and judged.count(False) > _TRAINED * len(judged)


def _are_most(judged: Collection[str], tensors: Mapping[str, Tensor], names: Sequence[str]) -> bool:
    """Whether these are most of the network: that a few tensors are no longer as they were drawn makes none trained."""
    numbers = {name: tensors[name].numel() for name in names}
    return sum(numbers[name] for name in judged) > _TRAINED * sum(numbers.values())


def _trained_note(reference: nn.Module, seen: bool) -> Note:
    return Note(
        type(reference).__name__,
        "",
        "its weights look trained; the members start from fresh ones, "
        + ("drawn as its own code draws them" if seen else "drawn by each layer type's own reset"),
        'no scheme of initial weights explains them; weights="inherit" takes them over, and packify.pack_members packs trained networks',
    )
