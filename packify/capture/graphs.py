"""The reference as fx graphs: one for evaluation and one for training, which are the same graph when nothing differs."""

from __future__ import annotations

import enum
import functools
import inspect
import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn

from packify.capture.arguments import bind
from packify.capture.batch import TRACING_BATCH, free_of_batch, signature_of
from packify.capture.calls import ModuleCall, settle
from packify.capture.functionalise import without_writes
from packify.capture.meta import frozen_constants, hooks_left_behind, meta_copy
from packify.capture.operators import RANDOM
from packify.capture.patches import patched
from packify.capture.recorder import Recorder
from packify.capture.state import State
from packify.capture.unused import drop_unused, unused_tensors
from packify.capture.unwrapping import unwrap
from packify.capture.wrapping import wrap_modules, write_nothing
from packify.capture.writer import WAYS_OUT, GraphWriter, constant_name
from packify.core import nested
from packify.core.errors import PackifyError, TraceError
from packify.core.graph_check import check_graph, graph_checks
from packify.core.report import Note

Mode = Literal["eval", "train"]
MODES: tuple[Mode, Mode] = ("eval", "train")


@dataclass
class RecordedGraphs:
    """A recorded reference.

    Attributes:
        root: a copy of the reference on the meta device.
        graphs: one `torch.fx.Graph` per mode; both keys hold the same object when the modes agree.
        constants: real tensors that the graphs read and that are neither parameters nor buffers.
        inputs: names of the graph's placeholders, in order.
        input_template: structure of the bound arguments; leaves index `inputs`, or are the constants passed.
        signature: `forward`'s signature.
        outputs: structure of the output per mode.
        batch: the batch size that the graphs were recorded with, or None when the inputs share no leading axis.
        any_batch: the network runs on other batch sizes than the example's.
        notes: what a user should know about the recording.
        calls: the calls of modules per mode, in order.
        tables: parameters that are operators for good, see `tables_of`.
    """

    root: nn.Module
    graphs: dict[str, fx.Graph]
    constants: dict[str, torch.Tensor]
    inputs: list[str]
    input_template: Any
    signature: inspect.Signature
    outputs: dict[str, Any]
    batch: int | None
    any_batch: bool = False
    notes: list[Note] = field(default_factory=list)
    input_shapes: list[tuple[int, ...]] = field(default_factory=list)
    input_dtypes: list[torch.dtype] = field(default_factory=list)
    leaves: tuple[type[nn.Module], ...] = ()
    tables: frozenset[str] = frozenset()
    output_choices: dict[str, str] = field(default_factory=dict)
    calls: dict[str, list[ModuleCall]] = field(default_factory=dict)

    @functools.cached_property
    def unused(self) -> frozenset[str]:
        """Parameters that no mode reads for the outputs that are computed, see `unused_tensors`; asked for once outputs are chosen."""
        return unused_tensors(self.root, self.graphs.values())


def record_graphs(
    model: nn.Module, example_inputs: Any, *, leaves: Sequence[type[nn.Module]] = (), random: Collection[Any] = RANDOM
) -> RecordedGraphs:
    """Record `model` by running it once per mode on meta tensors shaped like `example_inputs`.

    Args:
        model: any module; it is copied, never run and never changed.
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments for ``forward``.
        leaves: module types to keep whole.
        random: the operators, by function or name, whose results are drawn anew in every call.

    Raises:
        TraceError: the model refuses the input, or its Python code needs data that only a real input has.
    """
    session = _session(unwrap(model), example_inputs, tuple(leaves), random)
    size, runs = session.record_modes()
    (eval_run, eval_output), (train_run, train_output) = runs
    same = signature_of(eval_run.graph) == signature_of(train_run.graph) and eval_output == train_output
    any_batch = (
        size is not None
        and all(
            free_of_batch(run, size, lambda other, mode=mode: session.record(other, mode)[0])  # type: ignore[misc]
            for mode, (run, _) in zip(MODES[: 1 if same else 2], runs, strict=False)
        )
    )
    if not same:
        _rename_constants(train_run, eval_run.constants)
    values = without_writes(eval_run.graph, session.root, eval_run.calls)
    graphs = {"eval": values, "train": values if same else without_writes(train_run.graph, session.root, train_run.calls)}
    write_nothing(session.root)
    if graph_checks.get():
        for graph in graphs.values():
            check_graph(graph, "recording")
    tensors = [leaf for leaf in session.flat if isinstance(leaf, torch.Tensor)]
    return RecordedGraphs(
        root=session.root,
        graphs=graphs,
        constants=eval_run.constants | ({} if same else train_run.constants),
        inputs=[node.name for node in eval_run.graph.find_nodes(op="placeholder")],
        input_template=session.input_template(),
        signature=session.signature,
        outputs={"eval": eval_output, "train": train_output},
        batch=size,
        any_batch=any_batch,
        notes=list(dict.fromkeys((*eval_run.notes, *train_run.notes))),
        input_shapes=[tuple(tensor.shape) for tensor in tensors],
        input_dtypes=[tensor.dtype for tensor in tensors],
        leaves=tuple(leaves),
        tables=frozen_constants(session.root),
        calls={"eval": eval_run.calls, "train": eval_run.calls if same else train_run.calls},
    )


def _session(model: nn.Module, example_inputs: Any, leaves: tuple[type[nn.Module], ...], random: Collection[Any]) -> _Session:
    """A copy of a network, and the inputs that it is recorded with."""
    signature = inspect.signature(model.forward)
    flat, template = nested.flatten(bind(signature, example_inputs))
    if not any(isinstance(leaf, torch.Tensor) for leaf in flat):
        raise TraceError(
            "example_inputs",
            found=f"no tensor, but {', '.join(sorted({type(leaf).__name__ for leaf in flat})) or 'nothing'}",
            why="shapes and dtypes are read from tensors",
            fix="pass packify.pack(model, torch.randn(2, 3, 224, 224), ...); torch.from_numpy(array) makes a tensor of an array",
        )
    data = {name: tensor for name, tensor in model.named_buffers() if tensor.device.type != "meta"}
    held = (*model.parameters(), *model.buffers(), *filter(torch.is_tensor, flat))
    device = next((tensor.device for tensor in held if tensor.device.type != "meta"), torch.device("cpu"))
    return _Session(meta_copy(model), data, flat, template, signature, leaves, device, hooks_left_behind(model), random)


def _common_batch(flat: list[Any]) -> int | None:
    sizes = {leaf.shape[0] if leaf.dim() else None for leaf in flat if isinstance(leaf, torch.Tensor)}
    return sizes.pop() if len(sizes) == 1 else None


@dataclass
class _Session:
    """Recordings of one network; tensors that its code caches in one are known in the next."""

    root: nn.Module
    data: dict[str, torch.Tensor]
    flat: list[Any]
    template: Any
    signature: inspect.Signature
    leaves: tuple[type[nn.Module], ...]
    device: torch.device
    hooks: list[str]
    random: Collection[Any]
    writers: list[GraphWriter] = field(default_factory=list)

    def record_modes(self) -> tuple[int | None, list[tuple[GraphWriter, Any]]]:
        """A recording per mode, with batches of an unlikely size or, where the network refuses that, of the example's."""
        batch = _common_batch(self.flat)
        if batch is None:
            return None, [self.record(None, mode) for mode in MODES]
        try:
            return TRACING_BATCH, [self.record(TRACING_BATCH, mode) for mode in MODES]
        except TraceError:
            return batch, [self.record(batch, mode) for mode in MODES]

    def record(self, batch: int | None, mode: Mode) -> tuple[GraphWriter, Any]:
        """Run the network once: what was written, and the structure of the output."""
        root = self.root
        tensors = dict((*root.named_parameters(), *root.named_buffers()))
        known = (*root.parameters(), *root.buffers(), *filter(torch.is_tensor, self.flat))
        floating = (tensor.dtype for tensor in known if tensor.is_floating_point())
        writer = GraphWriter(tensors, self.data, next(floating, torch.float32), _held_tensors(root), self.device)
        writer.earlier, writer.random = list(self.writers), self.random
        self.writers.append(writer)
        return writer, _run(self, Recorder(writer), batch, mode)

    def input_template(self) -> Any:
        """The structure of the arguments, whose leaves number the tensors; other arguments are as they were given."""
        numbers = iter(range(len(self.flat)))

        def place(leaf: nested.Leaf) -> Any:
            given = self.flat[leaf.index]
            return nested.Leaf(next(numbers)) if isinstance(given, torch.Tensor) else given

        return nested.map_leaves(self.template, place, in_dataclasses=True)


def _run(session: _Session, recorder: Recorder, batch: int | None, mode: Mode) -> Any:
    """Record one run, and return the structure of its output."""
    root, writer = session.root, recorder.writer
    inputs = [_stand_in(leaf, batch) for leaf in session.flat]
    for leaf, label in zip(inputs, _labels(session.template), strict=True):
        if isinstance(leaf, torch.Tensor):
            recorder.placeholder(label, leaf)
    state = State(root)
    root.train(mode == "train")
    wrap_modules(root, recorder, session.leaves)
    bound = session.signature.bind_partial()
    bound.arguments.update(nested.unflatten(session.template, inputs))
    try:
        with patched(recorder):
            with writer.writing():
                result = root(*bound.args, **bound.kwargs)
            output, output_template = nested.flatten(result)
            recorder.output(_returned(recorder, output, nested.paths(output_template)))
            state.record(recorder)
    except PackifyError:
        raise
    except Exception as error:
        raise _refused(error, session, inputs) from error
    finally:
        state.restore()
    drop_unused(writer.graph)
    settle(writer.calls, writer.written, writer.graph)
    for node in writer.graph.find_nodes(op="output"):
        node.meta["paths"] = nested.paths(output_template)
    return output_template


def _returned(recorder: Recorder, leaves: list[Any], paths: list[str]) -> list[Any]:
    """What a network returns, without the objects that no graph can make.

    Raises:
        TraceError: there are such objects, and no tensor.
    """
    strange = [index for index, leaf in enumerate(leaves) if not isinstance(leaf, _RETURNED)]
    if strange and not any(isinstance(leaf, torch.Tensor) for leaf in leaves):
        raise TraceError(
            "forward",
            found=f"it returns a {type(leaves[strange[0]]).__name__}",
            why="a packed network returns tensors, in tuples, lists, dicts, named tuples and dataclasses",
            fix="return the object's tensors (for a distribution its logits, or mean and scale) and make the object from them afterwards",
        )
    for index in strange:
        recorder.writer.note(
            f"None is returned instead of a {type(leaves[index]).__name__}", "a graph makes tensors", f"output {paths[index]}".rstrip()
        )
    return [None if index in strange else leaf for index, leaf in enumerate(leaves)]


_RETURNED = (torch.Tensor, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.layout, enum.Enum)


def _held_tensors(root: nn.Module) -> set[int]:
    """Tensors that modules hold as plain attributes, also in lists and dicts."""
    held = (
        item for module in root.modules() for key, value in vars(module).items() if key not in _REGISTERED for item in nested.leaves(value)
    )
    return {id(item) for item in held if isinstance(item, torch.Tensor)}


_REGISTERED = ("_parameters", "_buffers", "_modules")


def _stand_in(leaf: Any, batch: int | None) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    shape = leaf.shape if batch is None else (batch, *leaf.shape[1:])
    return torch.empty(shape, dtype=leaf.dtype, device="meta")


def _labels(template: Any) -> list[str]:
    return [path.replace(".", "_") or "input" for path in nested.paths(template)]


def _refused(error: Exception, session: _Session, inputs: list[Any]) -> TraceError:
    root = session.root
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/torch/" not in frame.filename and "packify/capture" not in frame.filename
    ]
    where = f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else type(root).__name__
    shapes = ", ".join(str(tuple(leaf.shape)) for leaf in inputs if isinstance(leaf, torch.Tensor))
    why = f"{type(root).__name__} does not run on tensors without data of shape {shapes}; "
    why += "either it refuses that input, or this line needs real data"
    if session.hooks:
        names = ", ".join(name or "the network itself" for name in session.hooks)
        why += f"; forward hooks of {names} were not run, for they are no methods of its modules"
    return TraceError(
        where,
        found=f"{type(error).__name__}: {error}".rstrip(),
        why=why,
        fix=f"check the input's shape first (model(example_inputs) must work); then {WAYS_OUT}",
    )


def _rename_constants(run: GraphWriter, used: Collection[str]) -> None:
    """Constants of the second graph under names that the first has not used."""
    renamed: dict[str, str] = {}
    for name in run.constants:
        renamed[name] = constant_name(name.rpartition(".")[0], {*used, *renamed.values()})
    for node in run.graph.find_nodes(op="get_attr"):
        node.target = renamed.get(node.target, node.target)
    run.constants = {renamed[name]: tensor for name, tensor in run.constants.items()}
