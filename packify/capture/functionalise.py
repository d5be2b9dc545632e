"""Writes in place turned into values: afterwards a graph computes new tensors only, and buffers get theirs at its end.

    part = x[:, 0]              part = x[:, 0]
    part += y                   part_1 = part + y
                                x_1 = setitem(x, (slice(None), 0), part_1)
    other = x + part            other = x_1 + part_1
    self.count.add_(1)          count_1 = count + 1
                                store(count, count_1)            # last of all

Every tensor of a recording knows which memory it is in: that of the tensor that it is a view of. A write makes a new value of the
tensor it writes to, and by the inverse of each view one of the tensors which that is a part of; other views are made again where they
are read next. What is computed but never read is dropped. A write past the history (``x.detach()``, ``x.data``, ``torch.no_grad()``)
changes the numbers of a tensor and not its gradient. Inputs and tensors of the code are read, never written to.

In the end calls that were in place, on memory that nothing else reads afterwards, are put back: ``relu_`` after a conv saves memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from packify.capture.calls import ModuleCall, Places, settle
from packify.capture.outplace import Call, OutOfPlaceForm, forms_of, in_place_position
from packify.capture.reuse import reuse_memory
from packify.capture.values import call_on_meta
from packify.capture.views import HISTORY, same_place, storage_of, written_back
from packify.core.errors import TraceError
from packify.nn.members import Method
from packify.nn.writes import setitem, store, with_data


def without_writes(graph: fx.Graph, root: nn.Module, calls: Sequence[ModuleCall] = ()) -> fx.Graph:
    """`graph` without writes but for one `store` per buffer or parameter that it changes.

    Args:
        graph: a recorded graph; it is not changed.
        root: the module tree that it is run on.
        calls: of modules; their arguments and results become values of the new graph, in place.

    Raises:
        TraceError: memory is written to of which several elements are one, or by an operator that also returns something else.
    """
    if not any(in_place_position(node, root) is not None for node in graph.nodes):
        return graph
    return _Functionaliser(graph, root, calls, {name for name, _ in root.named_parameters()}).run()


def stored_in(graph: fx.Graph) -> set[str]:
    """Parameters and buffers that the graph writes to."""
    return {str(node.args[0].target) for node in graph.nodes if node.target is store and isinstance(node.args[0], fx.Node)}


@dataclass(eq=False)
class _Memory:
    """What some tensors of a recording share; `version` counts the writes."""

    version: int = 0


@dataclass(eq=False)
class _Tensor:
    """A tensor of the recording: its value in the new graph, and how it is made of the tensor that it is a view of.

    Attributes:
        value: the node that has its value as of `version` writes.
        call: the first node that made the view, of `made_of`; `element` of it, where it makes several.
    """

    memory: _Memory
    val: torch.Tensor
    value: fx.Node
    version: int = 0
    parent: _Tensor | None = None
    call: fx.Node | None = None
    made_of: fx.Node | None = None
    element: int | None = None


@dataclass
class _Functionaliser:
    graph: fx.Graph
    root: nn.Module
    calls: Sequence[ModuleCall]
    parameters: set[str]
    new: fx.Graph = field(default_factory=fx.Graph)
    tensors: dict[fx.Node, _Tensor] = field(default_factory=dict)
    others: dict[fx.Node, fx.Node] = field(default_factory=dict)
    owners: dict[int, _Tensor] = field(default_factory=dict)
    viewed: dict[fx.Node, fx.Node] = field(default_factory=dict)
    bases: dict[tuple[fx.Node, fx.Node], tuple[fx.Node, int]] = field(default_factory=dict)
    history: set[fx.Node] = field(default_factory=set)
    remade: dict[tuple[fx.Node, fx.Node], fx.Node] = field(default_factory=dict)
    current: fx.Node | None = None

    def run(self) -> fx.Graph:
        places = Places(self.calls)
        for node in self.graph.nodes:
            self.current = node
            position = in_place_position(node, self.root)
            if node.op == "output":
                self._store()
                self._copy(node)
            elif position is None:
                self._visit(node)
            else:
                self._write(node, position)
            places.follow(node, self.new, self._read)
        written = [node.name for node in self.new.nodes]
        for node in reversed(list(self.new.nodes)):
            if not node.users and node.op not in ("placeholder", "output", "call_module") and node.target is not store:
                self.new.erase_node(node)
        reuse_memory(self.new, self.root, self.viewed)
        settle(self.calls, written, self.new)
        return self.new

    # -- reading -----------------------------------------------------------------------------------------------------

    def _visit(self, node: fx.Node) -> None:
        """A call that writes nothing: the same call of the values as they are now."""
        made = self._copy(node)
        val = node.meta["val"]
        if not isinstance(val, torch.Tensor):
            self.others[node] = made
            self._note_views(node, made)
            return
        call: Any = node.args[0] if _is_element(node) else node
        element: Any = node.args[1] if _is_element(node) else None
        sources = () if node.meta["op"] == "clone" else call.all_input_nodes
        parent = next((source for source in sources if self._is_same_memory(source, val)), None)
        owner = None if node.meta["op"] == "clone" else self.owners.get(storage_of(val))
        if parent is not None:
            base = self.tensors[parent]
            made_by = made if element is None else self.others[call]
            made_of, version = (self._value(base), base.memory.version) if element is None else self.bases[call, parent]
            self.viewed[made] = made_of if element is None else made_by
            self.tensors[node] = _Tensor(base.memory, val, made, version, base, made_by, made_of, element)
        elif owner is not None and same_place(owner.val, val):
            self.tensors[node] = owner
        else:
            self.tensors[node] = _Tensor(_Memory(), val, made)
            self.owners.setdefault(storage_of(val), self.tensors[node])

    def _note_views(self, node: fx.Node, made: fx.Node) -> None:
        """Several views made by one call: of which values, for code may ask for them after a write."""
        if isinstance(node.meta["val"], (tuple, list)):
            vals = [item for item in node.meta["val"] if isinstance(item, torch.Tensor)]
            for source in node.all_input_nodes:
                if any(self._is_same_memory(source, val) for val in vals):
                    base = self.tensors[source]
                    self.viewed[made] = self._value(base)
                    self.bases[node, source] = self._value(base), base.memory.version

    def _is_same_memory(self, source: fx.Node, val: torch.Tensor) -> bool:
        return source in self.tensors and storage_of(self.tensors[source].val) == storage_of(val)

    def _read(self, node: fx.Node) -> fx.Node:
        return self._value(self.tensors[node]) if node in self.tensors else self.others[node]

    def _value(self, tensor: _Tensor) -> fx.Node:
        """The value that a tensor of the recording has now; a view of what was written to since is made again."""
        if tensor.version == tensor.memory.version or tensor.parent is None or tensor.call is None:
            return tensor.value
        base = self._value(tensor.parent)
        if same_place(tensor.val, tensor.parent.val) and tensor.call.meta["op"] not in HISTORY:
            tensor.value = base
        else:
            again = self._view_again(tensor, base)
            again = again if tensor.element is None else self._element(again, tensor.element, tensor.val)
            if tensor.call.meta["op"] in HISTORY and tensor.value in self.history:  # a write to it gave it a history of its own
                again = self.emit(Call("call_function", with_data, (tensor.value, again)), torch.empty_like(tensor.val))
            tensor.value = again
        tensor.version = tensor.memory.version
        return tensor.value

    def _view_again(self, tensor: _Tensor, base: fx.Node) -> fx.Node:
        call: Any = tensor.call
        if base is tensor.made_of:
            return call  # type: ignore[no-any-return]
        if (call, base) not in self.remade:
            made = self.new.node_copy(call, lambda source: base if source is tensor.made_of else source)
            made.meta = dict(call.meta) | ({"stack": self.current.meta["stack"]} if self.current is not None else {})
            self._follow(made)
            self.viewed[made] = base
            self.remade[call, base] = made
        return self.remade[call, base]

    def _element(self, call: fx.Node, index: int, val: torch.Tensor) -> fx.Node:
        made = self.emit(Call.of("getitem", (call, index)), val)
        self.viewed[made] = call
        return made

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write(self, node: fx.Node, position: int) -> None:
        tensor = self.tensors[node.args[position]]  # type: ignore[index]
        self._refuse(node, tensor)
        if node.meta["op"] == "setitem":
            _, index, value = self._mapped(node.args)
            if not self._is_its_own_part(node, tensor, index):
                recorded = Call("call_function", setitem, (self._value(tensor), index, value), {"reuse": True})
                form = OutOfPlaceForm("call_function", setitem, kwargs={"reuse": False})
                made = self.emit(Call(recorded.op, setitem, recorded.args), torch.empty_like(tensor.val))
                made.meta["reuse"] = recorded, form
                self._replace(tensor, made)
            return
        recorded = Call(node.op, node.target, self._mapped(node.args), self._mapped(node.kwargs))
        self._replace(tensor, self._computed(node, recorded, position, tensor))
        self.tensors[node] = tensor

    def _computed(self, node: fx.Node, recorded: Call, position: int, tensor: _Tensor) -> fx.Node:
        """The value that an operator in place gives, out of place and in the dtype of what it writes to."""
        for form in forms_of(Call(node.op, node.target, node.args, dict(node.kwargs)), node.meta["op"], position):
            call = form.call(recorded.args, recorded.kwargs)
            made = self._try(call, node.meta["op"])
            if call.op == "call_module" or (isinstance(made, torch.Tensor) and made.shape == tensor.val.shape):
                break
        else:
            raise self._refused(f"{node.meta['op']} makes another shape of what it writes to", "a graph cannot write that")
        if made is not None and made.dtype != tensor.val.dtype:
            result = self.emit(call, made, op=node.meta["op"])
            return self.emit(Call("call_method", "type_as", (result, self._value(tensor))), torch.empty_like(tensor.val), op="type_as")
        result = self.emit(call, torch.empty_like(tensor.val), op=node.meta["op"])
        if position == 0 and call.op != "call_module" and node.meta["val"] is not None:
            result.meta["reuse"] = recorded, form
        return result

    def _try(self, call: Call, op: str) -> Any:
        if call.op == "call_module":
            return None
        args, kwargs = fx.node.map_arg((call.args, call.kwargs), lambda source: source.meta["val"])
        function: Callable[..., Any] = Method(call.target) if call.op == "call_method" else call.target
        try:
            with torch.no_grad():
                return call_on_meta(op, function, args, kwargs)
        except Exception:  # an operator of that name that takes other arguments
            return None

    def _is_its_own_part(self, node: fx.Node, tensor: _Tensor, index: Any) -> bool:
        """The second half of ``x[index] += y``, for which Python writes the part, which is in place already, to its own place."""
        part = self.tensors.get(node.args[2]) if isinstance(node.args[2], fx.Node) else None
        if part is None or part.parent is not tensor or part.version != tensor.memory.version or part.call is None:
            return False
        return bool(part.call.meta["op"] == "getitem" and part.element is None and part.call.args[1] == index)

    def _replace(self, tensor: _Tensor, value: fx.Node) -> None:
        """From here on a tensor, and everything that it is a view of, has a new value."""
        path = [tensor]
        while path[-1].parent is not None:
            path.append(path[-1].parent)
        before = [self._value(part) for part in path]
        tensor.memory.version += 1
        for part, base in zip(path, [*before[1:], None], strict=True):
            part.value, part.version = value, tensor.memory.version
            if part.parent is not None and base is not None:
                value = self._written_back(part, base, value)

    def _written_back(self, part: _Tensor, base: fx.Node, value: fx.Node) -> fx.Node:
        parent: Any = part.parent
        call: Any = part.call
        if call.meta["op"] in HISTORY:
            if value in self.history:
                value = self.emit(Call("call_method", "detach", (value,)), torch.empty_like(parent.val), op="detach")
            if base not in self.history:
                return value
            return self.emit(Call("call_function", with_data, (base, value)), torch.empty_like(parent.val))
        if same_place(part.val, parent.val):
            return value
        pieces = None
        if part.element is not None:
            again = self._view_again(part, base)
            pieces = [value if index == part.element else self._element(again, index, val) for index, val in enumerate(call.meta["val"])]
        return self.emit(written_back(call, part.made_of, part.element, pieces, base, value), torch.empty_like(parent.val))  # type: ignore[arg-type]

    def _store(self) -> None:
        """What buffers and parameters hold after the call, the last written last."""
        state = {name for name, _ in (*self.root.named_parameters(), *self.root.named_buffers())}
        written = [(node, tensor) for node, tensor in self.tensors.items() if node.op == "get_attr" and tensor.memory.version]
        for node, tensor in sorted(written, key=lambda item: item[1].version):
            if str(node.target) in state and tensor.parent is None:
                self.current = node
                stored = self.emit(Call("call_function", store, (self.others[node], self._value(tensor))), None)
                stored.meta["stack"] = ()  # after every module call

    def _refuse(self, node: fx.Node, tensor: _Tensor) -> None:
        if any(stride == 0 and size > 1 for size, stride in zip(tensor.val.shape, tensor.val.stride(), strict=True)):
            raise self._refused(
                f"{node.meta['op']} in place on a tensor of shape {tuple(tensor.val.shape)} of which several elements are one in memory",
                "torch does not write to expanded tensors either",
            )
        val = node.meta["val"]
        if val is not None and not (isinstance(val, torch.Tensor) and storage_of(val) == storage_of(tensor.val)):
            raise self._refused(
                f"{node.meta['op']} writes to a tensor and returns another",
                "a graph holds values, and a call of an operator has one or the other",
            )

    def _refused(self, found: str, why: str) -> TraceError:
        meta: Any = self.current.meta if self.current is not None else {}
        return TraceError(
            f"{meta['source']}, in {meta['path'] or 'forward'}",
            found=found,
            why=why,
            fix="write to a copy (x = x.clone()), or keep the module with that line whole: leaves=[ItsType]",
        )

    # -- the new graph -----------------------------------------------------------------------------------------------

    def _mapped(self, value: Any) -> Any:
        return fx.node.map_arg(value, self._read)

    def _copy(self, node: fx.Node) -> fx.Node:
        read = self._stale if _asks_for_shape(node) else self._read
        made = self.new.node_copy(node, read)
        made.meta = dict(node.meta)
        if node.op == "get_attr":
            self.others[node] = made
        self._follow(made)
        return made

    def _stale(self, node: fx.Node) -> fx.Node:
        """A value before some writes will do."""
        return self.tensors[node].value if node in self.tensors else self.others[node]

    def emit(self, call: Call, val: Any, op: str = "") -> fx.Node:
        """A node of the new graph, said to be at the line that is being turned."""
        made = self.new.create_node(call.op, call.target, tuple(call.args), dict(call.kwargs))
        meta: Any = self.current.meta if self.current is not None else {}
        made.meta.update(val=val, op=op or call.name, inplace=False)
        made.meta |= {key: meta[key] for key in ("path", "source", "stack") if key in meta}
        made.meta["random"] = meta.get("random") if made.meta["op"] == meta.get("op") else None
        self._follow(made)
        return made

    def _follow(self, made: fx.Node) -> None:
        """Whether a value may carry a gradient."""
        val = made.meta["val"]
        vals = val if isinstance(val, (tuple, list)) else (val,)
        floating = any(isinstance(item, torch.Tensor) and (item.is_floating_point() or item.is_complex()) for item in vals)
        if not floating or made.meta["op"] in HISTORY:
            return
        if made.op == "get_attr":
            carries = made.target in self.parameters
        else:
            carries = made.op in ("placeholder", "call_module") or any(source in self.history for source in made.all_input_nodes)
        if carries:
            self.history.add(made)


def _is_element(node: fx.Node) -> bool:
    """``outputs[1]`` of a call with several."""
    return node.meta["op"] == "getitem" and isinstance(node.args[0], fx.Node) and isinstance(node.args[0].meta["val"], (tuple, list))


def _asks_for_shape(node: fx.Node) -> bool:
    return node.meta["op"] in ("size", "numel") or (node.target is getattr and node.meta["op"] in ("device", "dtype"))
