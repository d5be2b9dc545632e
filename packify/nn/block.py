"""A block: a module that runs a small graph of its own, as a Python function that a person can read."""

from __future__ import annotations

import hashlib
import inspect
import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from torch import fx, nn

from packify.nn.exchange import Exchangeable
from packify.nn.owners import choose_strategy, strategy_of
from packify.nn.ports import ports_of
from packify.nn.printing import Body, Names, as_shown, body_of


@dataclass(frozen=True, eq=False)
class Form:
    """What one kind of call of a module runs: a graph in evaluation, and one in training, which may be the same object.

    Attributes:
        evaluation, training: graphs whose attributes and modules are named relative to the block.
    """

    evaluation: fx.Graph
    training: fx.Graph

    def __deepcopy__(self, memo: dict[int, Any]) -> Form:
        """Nothing changes it."""
        return self


FORMS = {"shared": ("eval", "train"), "independent": ("independent_eval", "independent")}
"""The kinds of inputs that a packed network takes, and the names of its flat graphs for them, of evaluation and of training."""


def whole_forms(graphs: Mapping[str, fx.Graph]) -> dict[str, Form]:
    """A network's flat graphs, by the kind of its inputs."""
    return {kind: Form(graphs[evaluation], graphs[training]) for kind, (evaluation, training) in FORMS.items() if training in graphs}


class Block(Exchangeable):
    """A module of a packed network, or of a member, that computes: its code is that of a small graph.

    Attributes:
        forms: the graphs; more than one where the module is called in different ways, and the call then says ``form=1``.
        source: the Python code of `forward`.
        strategy: how the packed network runs this part of it: ``"auto"``, as the network says, ``"grouped"`` or ``"in turn"``; see
            `PackedNetwork.strategies`. Where the reference's module has something of that name, it is that.
    """

    forms: ClassVar[tuple[Form, ...]] = ()
    source: ClassVar[str] = ""

    @property
    def strategy(self) -> Any:
        """How the packed network runs this part of it."""
        own = _holder(self, "strategy")
        return strategy_of(self) if own is None else own["strategy"]

    @strategy.setter
    def strategy(self, value: Any) -> None:
        own = _holder(self, "strategy")
        if own is None:
            choose_strategy(self, value)
        else:
            own["strategy"] = value

    @property
    def code(self) -> str:
        """The Python code that runs, with names relative to this block."""
        return shown(self.source)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, (super().extra_repr(), *dict.fromkeys(map(str, ports_of(self))))))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (base_of(self), self.forms), self.__getstate__()  # type: ignore[no-untyped-call]


def _holder(module: nn.Module, name: str) -> Any:
    """What holds something of that name for a module, if anything does."""
    own = vars(module)
    return next((held for held in (own, own["_modules"], own["_parameters"], own["_buffers"]) if name in held), None)


LAYER_FORMS = "_packify_forms"
"""Where a layer whose own forward computes what its small graph does keeps that graph's form."""


def forms_of(module: nn.Module) -> tuple[Form, ...]:
    """The forms of a block or of a layer; nothing for what is never called or is kept whole."""
    found: tuple[Form, ...] = module.forms if isinstance(module, Block) else vars(module).get(LAYER_FORMS, ())
    return found


def is_block_class(kind: type[nn.Module]) -> bool:
    """Whether a class is one that `block_class` has made, and not one that a wrapper has put in front of it."""
    return _BASE in vars(kind)


def base_of(module: nn.Module) -> type[nn.Module]:
    """The class that a module has without what makes it a block."""
    return next((vars(kind)[_BASE] for kind in type(module).__mro__ if _BASE in vars(kind)), type(module))


def remove_blocks(tree: nn.Module) -> None:
    """Give all modules the classes that they have without what makes them blocks."""
    for module in tree.modules():
        if is_block_class(type(module)):
            module.__class__ = base_of(module)


class OwnCode(nn.Module):
    """A module's own code, where the module itself runs a graph around it: `PerMember` calls it once per member."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return base_of(self.module).forward(self.module, *args, **kwargs)


_BASE = "_packify_base"
_classes: WeakValueDictionary[Any, type[nn.Module]] = WeakValueDictionary()


def block_class(base: type[nn.Module], forms: tuple[Form, ...]) -> type[nn.Module]:
    """The class of the blocks that run `forms`: equal code has one class, so that what is compiled for one block serves all like it."""
    hidden = hidden_names(base)
    source, names = source_of(forms, hidden)
    key = (base, source, _objects_key(names))
    found = _classes.get(key)
    if found is None:
        functions = functions_from(source, names, base.__name__)
        own = {"forms": forms, "source": source, _BASE: base, "__module__": base.__module__}
        if hasattr(base, "strategy"):  # the reference's class has something of that name, which its code may read
            own["strategy"] = inspect.getattr_static(base, "strategy")
        found = type(base.__name__, (Block, base), {**functions, **own})
        _classes[key] = found
    return found


def _blank(base: type[nn.Module], forms: tuple[Form, ...]) -> nn.Module:
    """A block without state: where a pickle begins."""
    kind = block_class(base, forms)
    return kind.__new__(kind)


def hidden_names(base: type[nn.Module]) -> Callable[[str], bool]:
    """Whether a child or tensor of that name is hidden behind an attribute of its class."""
    return lambda name: hasattr(Block, name) or hasattr(base, name)


def _objects_key(objects: Mapping[str, Any]) -> Any:
    return tuple((name, type(value), _comparable(value)) for name, value in sorted(objects.items()))


def _comparable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


# -- code ------------------------------------------------------------------------------------------------------------


def source_of(forms: tuple[Form, ...], hidden: Callable[[str], bool], name: str = "forward") -> tuple[str, dict[str, Any]]:
    """The Python code of the function called `name` that runs `forms`, and the objects that it names."""
    names = Names()
    functions = []
    for number, form in enumerate(forms):
        evaluation = body_of(form.evaluation, names, hidden)
        training = evaluation if form.training is form.evaluation else body_of(form.training, names, hidden)
        functions.append(_function(name if len(forms) == 1 else f"_form_{number}", evaluation, training))
    if len(forms) > 1:
        choices = ", ".join(f"self._form_{number}" for number in range(len(forms)))
        functions.insert(0, f"def {name}(self, *args, form=0, **kwargs):\n    return ({choices})[form](*args, **kwargs)")
    return "\n\n".join(functions) + "\n", names.objects


def _function(name: str, evaluation: Body, training: Body) -> str:
    lines = [f"def {name}({', '.join(['self', *evaluation.parameters])}):"]
    if training is not evaluation:
        lines += ["    if self.training:", *(f"        {line}" for line in training.lines)]
    return "\n".join([*lines, *(f"    {line}" for line in evaluation.lines)])


def functions_from(source: str, names: Mapping[str, Any], kind: str) -> dict[str, FunctionType]:
    """The functions of some code, by name. Tracebacks and debuggers find its lines."""
    file = f"<packify {kind} {hashlib.sha256(source.encode()).hexdigest()[:8]}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace: dict[str, Any] = dict(names)
    exec(compile(source, file, "exec"), namespace)  # noqa: S102  written by this package from a graph
    return {name: value for name, value in namespace.items() if isinstance(value, FunctionType) and value.__code__.co_filename == file}


def shown(source: str) -> str:
    """Code as a person reads it; see `packify.nn.printing.as_shown`."""
    return "\n".join(map(as_shown, source.splitlines()))


def code_key(graph: fx.Graph, base: type[nn.Module]) -> Any:
    """What tells the code of one graph from that of another, on modules of one class."""
    names = Names()
    body = body_of(graph, names, hidden_names(base))
    return tuple(body.parameters), tuple(body.lines), _objects_key(names.objects)
