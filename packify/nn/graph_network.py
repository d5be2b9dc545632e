"""A network that is a module tree and one fx graph per mode: what a member and a packed network have in common."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import fx, nn

from packify.core import nested
from packify.core.errors import PackError
from packify.nn.block import Form, shown, whole_forms
from packify.nn.code import give_own_class, shared_class
from packify.nn.exchange import Exchangeable

# What a network and its module tree hold as one object each.
_SHARED_WITH_BODY = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
# What a pickle leaves out: what `packed.compile()` has made.
_NOT_KEPT = ("_compiled_call_impl",)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Cut(Protocol):
    """Makes blocks of a module tree, by flat graphs, and gives what the network itself runs."""

    @property
    def calls(self) -> Mapping[str, Any]:
        """The calls of modules in the recording, by mode."""

    def __call__(self, graphs: Mapping[str, fx.Graph], tree: nn.Module) -> Mapping[str, Form]: ...


@dataclass(frozen=True)
class Interface:
    """How a network is called.

    Attributes:
        signature: of the reference's ``forward``.
        template: its arguments; leaves number the graph's inputs, other values are constants of the recording.
        outputs: structure of the output by mode.
    """

    signature: inspect.Signature
    template: Mapping[str, Any]
    outputs: Mapping[str, Any]
    _positions: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_positions", _positions(self.signature, self.template))

    def __deepcopy__(self, memo: dict[int, Any]) -> Interface:
        """Nothing changes it, and the structures of a user may not be copied."""
        return self

    def callers_signature(self) -> inspect.Signature:
        """The reference's signature, where an argument that must be given there and has one value for good has that as its default."""
        parameters: list[inspect.Parameter] = []
        required = False
        for parameter in reversed(list(self.signature.parameters.values())):
            fixed = parameter.name in self.template and not _holds_tensors(self.template[parameter.name])
            by_keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
            if parameter.default is parameter.empty and parameter.kind not in _STARS:
                if fixed and (by_keyword or not required):
                    parameter = parameter.replace(default=self.template[parameter.name])
                else:
                    required = required or not by_keyword
            parameters.append(parameter)
        return self.signature.replace(parameters=parameters[::-1])

    def flat_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        """The tensors among a call's arguments, in the graph's order.

        Raises:
            PackError: the call has other tensors than the recorded one.
        """
        if args and not kwargs and len(args) == len(self._positions) and all(isinstance(argument, torch.Tensor) for argument in args):
            return [args[position] for position in self._positions]
        given = self.signature.bind_partial(*args, **kwargs).arguments.keys() | kwargs.keys()
        recorded = {
            name: value
            for name, value in self.template.items()
            if name not in given and self.signature.parameters[name].kind in _BY_NAME and not _holds_tensors(value)
        }
        arguments = dict(self.signature.bind(*args, **kwargs, **recorded).arguments)
        leaves, template = nested.flatten(arguments)
        found = dict(zip(nested.paths(template), leaves, strict=True))
        wanted = _tensor_paths(self.template)
        tensors = [found.get(path) for path in wanted]
        if not all(isinstance(tensor, torch.Tensor) for tensor in tensors) or sum(isinstance(leaf, torch.Tensor) for leaf in leaves) != len(
            wanted
        ):
            raise PackError(
                "forward",
                found=f"tensors for {[path for path, leaf in found.items() if isinstance(leaf, torch.Tensor)]}",
                why=f"the network was packed for inputs {wanted}: which arguments are tensors is part of the recording",
                fix="pass the same arguments as in example_inputs, or pack again with these",
            )
        self._check_constants({path: leaf for path, leaf in found.items() if path not in wanted})
        return tensors  # type: ignore[return-value]

    def _check_constants(self, given: Mapping[str, Any]) -> None:
        """Arguments that are no tensors are part of the recording: another value would be another graph."""
        leaves, places = nested.flatten(self.template)
        recorded = {path: leaf for path, leaf in zip(nested.paths(places), leaves, strict=True) if not isinstance(leaf, nested.Leaf)}
        defaults = {name: parameter.default for name, parameter in self.signature.parameters.items()}
        for path in recorded.keys() | given.keys():
            default = defaults.get(path, inspect.Parameter.empty)
            then, now = recorded.get(path, default), given.get(path, default)
            if then is not now and not _equal(then, now):
                absent = now is inspect.Parameter.empty
                raise PackError(
                    f"forward without {path}" if absent else f"forward({path}={now!r})",
                    found=f"the network was recorded with {path}={then!r}",
                    why="arguments that are not tensors decide what the graph is, so they are part of the recording",
                    fix=f"pass {path}={then!r}, or pack again " + ("without it" if absent else f"with {path}={now!r} among example_inputs"),
                )


def _positions(signature: inspect.Signature, template: Mapping[str, Any]) -> tuple[int, ...]:
    """The position of each input among the arguments, where all of them are tensors and come by position; else nothing."""
    names = list(signature.parameters)[: len(template)]
    kinds = {signature.parameters[name].kind for name in names}
    leaves = [template.get(name) for name in names]
    if not kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY}:
        return ()
    if not all(isinstance(leaf, nested.Leaf) for leaf in leaves):
        return ()
    return tuple(sorted(range(len(leaves)), key=lambda position: leaves[position].index))  # type: ignore[union-attr]


def _holds_tensors(template: Any) -> bool:
    return any(isinstance(leaf, nested.Leaf) for leaf in nested.flatten(template)[0])


def _equal(a: Any, b: Any) -> bool:
    try:
        return type(a) is type(b) and bool(a == b)
    except (TypeError, ValueError, RuntimeError):
        return False


class GraphNetwork(Exchangeable):
    """Runs graphs over a module tree whose children it shares: small ones of its blocks, which are one flat graph cut into pieces.

    Args:
        body: the module tree. Its parameters, buffers and children become this module's own.
        graphs: flat, by mode, ``"eval"`` and ``"train"``; what passes and laws work on.
        interface: how it is called.
        unused: names of the reference's tensors that the graphs never read and that are left out.
        cut: makes blocks of the body and gives what the network itself runs; without it, that is the flat graphs.
    """

    body: nn.Module
    graphs: dict[str, fx.Graph]
    interface: Interface
    forms: Mapping[str, Form]
    cut: Cut | None
    unused: frozenset[str] = frozenset()
    source: ClassVar[str] = ""

    def __init__(
        self,
        body: nn.Module,
        graphs: Mapping[str, fx.Graph],
        interface: Interface,
        unused: frozenset[str] = frozenset(),
        cut: Cut | None = None,
    ) -> None:
        super().__init__()
        self.__dict__ |= {"graphs": dict(graphs), "interface": interface, "unused": unused, "cut": cut}
        self._hold(body)
        self.training = body.training
        self.recompile()

    def _hold(self, body: nn.Module) -> None:
        self.__dict__["body"] = body
        for shared in _SHARED_WITH_BODY:
            self.__dict__[shared] = vars(body)[shared]

    def over(self, body: nn.Module) -> Self:
        """The same graphs over another module tree, run by the same code: what `torch.compile` made for one serves the other."""
        twin = type(self).__new__(type(self))
        nn.Module.__init__(twin)
        shared = ("graphs", "interface", "unused", "cut", "forms")
        twin.__dict__ |= {name: self.__dict__[name] for name in shared}
        twin._hold(body)
        twin.training = body.training
        return twin

    def recompile(self) -> None:
        """Make the flat graphs as they are now what runs."""
        self.__dict__["forms"] = whole_forms(self.graphs) if self.cut is None else self.cut(self.graphs, self.body)
        give_own_class(self, self.forms, self.interface.callers_signature())

    def get_submodule(self, target: str) -> nn.Module:
        """A part by its dotted name, also where a child is called like an attribute of this class."""
        return self.body.get_submodule(target) if target else self

    def get_parameter(self, target: str) -> nn.Parameter:
        """A parameter by its dotted name."""
        return self.body.get_parameter(target)

    def get_buffer(self, target: str) -> torch.Tensor:
        """A buffer by its dotted name."""
        return self.body.get_buffer(target)

    @property
    def code(self) -> str:
        """The Python code that runs, with names relative to this network; that of its parts is ``packed.layer1.code``."""
        return shown(self.source)

    def flat_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        """The tensors among a call's arguments, in the graph's order."""
        return self.interface.flat_inputs(args, kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch does; of the reference's own keys that are left out here, the error says why they are and what to do.

        Raises:
            RuntimeError: keys or shapes differ.
        """
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            extra = sorted(self.unused & state_dict.keys())
            if not strict or not extra:
                raise
            shown = ", ".join(extra[:6]) + (f" and {len(extra) - 6} more" if len(extra) > 6 else "")
            why = f"{shown}: forward never reads them, so they are left out of this network."
            raise RuntimeError(f'{error}\n\t{why} Load with strict=False, or pack with unused="keep".') from error

    def run(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The graph's outputs, flat."""
        return self.run_form("train" if self.training else "eval", args, kwargs)

    def run_form(self, form: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The graph's outputs, flat: for ``"independent"`` inputs, or, under the name of the network's own mode, for shared ones."""
        run = self._graph_independent if form == "independent" else self._graph
        outputs: tuple[Any, ...] = run(*self.flat_inputs(args, kwargs))  # type: ignore[operator]
        return outputs

    def restructure(self, leaves: list[Any]) -> Any:
        """Flat outputs in the reference's structure."""
        return nested.unflatten(self.interface.outputs["train" if self.training else "eval"], leaves)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (shared_class(self),), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in _NOT_KEPT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._hold(self.body)
        give_own_class(self, self.forms, self.interface.callers_signature())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy of everything but the code, which a copy of the same graphs can run as well."""
        memo[id(self)] = twin = type(self).__new__(type(self))
        twin.__dict__ |= copy.deepcopy(self.__getstate__(), memo)
        return twin


class MemberNetwork(GraphNetwork):
    """One member as a network of its own: the reference at the member's widths."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the reference's ``forward`` takes and returns."""
        return self.restructure(list(self.run(*args, **kwargs)))


def _blank(kind: type[GraphNetwork]) -> GraphNetwork:
    """A network without state: where a copy or a pickle begins."""
    return kind.__new__(kind)


def _tensor_paths(template: Mapping[str, Any]) -> list[str]:
    """The paths of the recorded tensors, in the graph's order."""
    leaves, places = nested.flatten(template)
    labels = nested.paths(places)
    numbered = [(leaf.index, label) for leaf, label in zip(leaves, labels, strict=True) if isinstance(leaf, nested.Leaf)]
    return [label for _, label in sorted(numbered)]
