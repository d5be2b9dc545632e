"""The reference as fx graphs: one for evaluation and one for training, which are the same graph when nothing differs."""

from __future__ import annotations

import enum
import inspect
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn

from packify.capture.arguments import bind
from packify.capture.batch import TRACING_BATCH, free_of_batch, signature_of
from packify.capture.functionalise import functionalise, write_nothing
from packify.capture.meta import frozen_constants, hooks_left_behind, meta_copy
from packify.capture.patches import patched
from packify.capture.recorder import Recorder
from packify.capture.state import State
from packify.capture.unwrapping import unwrap
from packify.capture.values import leaves as leaves_of
from packify.capture.writer import WAYS_OUT
from packify.core import nested
from packify.core.errors import PackifyError, TraceError
from packify.core.report import Note

Mode = Literal["eval", "train"]
MODES: tuple[Mode, Mode] = ("eval", "train")

# Modules kept whole: their behaviour changes with their own train / eval switch, or their kernel takes all weights at once.
DEFAULT_LEAVES: tuple[type[nn.Module], ...] = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    nn.RNN,
    nn.LSTM,
    nn.GRU,
)


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


def record_graphs(model: nn.Module, example_inputs: Any, *, leaves: Sequence[type[nn.Module]] = ()) -> RecordedGraphs:
    """Record `model` by running it once per mode on meta tensors shaped like `example_inputs`.

    Args:
        model: any module; it is copied, never run and never changed.
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments for ``forward``.
        leaves: module types to keep whole.

    Raises:
        TraceError: the model refuses the input, or its Python code needs data that only a real input has.
    """
    model = unwrap(model)
    signature = inspect.signature(model.forward)
    arguments = bind(signature, example_inputs)
    flat, template = nested.flatten(arguments)
    if not any(isinstance(leaf, torch.Tensor) for leaf in flat):
        raise TraceError(
            "example_inputs",
            found=f"no tensor, but {', '.join(sorted({type(leaf).__name__ for leaf in flat})) or 'nothing'}",
            why="shapes and dtypes are read from tensors",
            fix="pass packify.pack(model, torch.randn(2, 3, 224, 224), ...); torch.from_numpy(array) makes a tensor of an array",
        )
    root = meta_copy(model)
    data = {name: tensor for name, tensor in model.named_buffers() if tensor.device.type != "meta"}
    held = (*model.parameters(), *model.buffers(), *filter(torch.is_tensor, flat))
    device = next((tensor.device for tensor in held if tensor.device.type != "meta"), torch.device("cpu"))
    session = _Session(root, data, flat, template, signature, tuple(leaves), device, hooks_left_behind(model))
    batch = _common_batch(flat)
    attempts = [TRACING_BATCH, batch] if batch is not None else [None]
    for attempt, size in enumerate(attempts):
        try:
            runs = [session.record(size, mode) for mode in MODES]
            break
        except TraceError:
            if attempt == len(attempts) - 1:
                raise
    (eval_run, eval_output), (train_run, train_output) = runs
    same = signature_of(eval_run.graph) == signature_of(train_run.graph) and eval_output == train_output
    any_batch = (
        size is not None
        and all(
            free_of_batch(run, size, lambda other, mode=mode: session.record(other, mode)[0])  # type: ignore[misc]
            for mode, (run, _) in zip(MODES[: 1 if same else 2], runs, strict=False)
        )
    )
    names = [node.name for node in eval_run.graph.find_nodes(op="placeholder")]
    tensors = [leaf for leaf in flat if isinstance(leaf, torch.Tensor)]
    if not same:
        train_run = _renamed(train_run, len(eval_run.constants))
    numbers = iter(range(len(tensors)))
    values = functionalise(eval_run.graph, root)
    graphs = {"eval": values, "train": values if same else functionalise(train_run.graph, root)}
    write_nothing(root)
    return RecordedGraphs(
        root=root,
        graphs=graphs,
        constants=eval_run.constants | ({} if same else train_run.constants),
        inputs=names,
        input_template=nested.map_leaves(
            template, lambda leaf: nested.Leaf(next(numbers)) if isinstance(flat[leaf.index], torch.Tensor) else flat[leaf.index]
        ),
        signature=signature,
        outputs={"eval": eval_output, "train": train_output},
        batch=size,
        any_batch=any_batch,
        notes=list(dict.fromkeys((*eval_run.notes, *train_run.notes))),
        input_shapes=[tuple(tensor.shape) for tensor in tensors],
        input_dtypes=[tensor.dtype for tensor in tensors],
        leaves=tuple(leaves),
        tables=frozen_constants(root),
    )


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
    recorders: list[Recorder] = field(default_factory=list)

    def record(self, batch: int | None, mode: Mode) -> tuple[Recorder, Any]:
        """Run the network once."""
        root = self.root
        tensors = dict((*root.named_parameters(), *root.named_buffers()))
        known = (*root.parameters(), *root.buffers(), *filter(torch.is_tensor, self.flat))
        floating = (tensor.dtype for tensor in known if tensor.is_floating_point())
        recorder = Recorder(tensors, self.data, next(floating, torch.float32), _held_tensors(root), self.device)
        recorder.earlier = list(self.recorders)
        self.recorders.append(recorder)
        return _run(self, recorder, batch, mode)


def _run(session: _Session, recorder: Recorder, batch: int | None, mode: Mode) -> tuple[Recorder, Any]:
    root, template, signature = session.root, session.template, session.signature
    inputs = [_stand_in(leaf, batch) for leaf in session.flat]
    arguments = nested.unflatten(template, inputs)
    labels = _labels(template)
    for leaf, label in zip(inputs, labels, strict=True):
        if isinstance(leaf, torch.Tensor):
            recorder.placeholder(label, leaf)
    state = State(root)
    root.train(mode == "train")
    _wrap(root, recorder, session.leaves)
    bound = signature.bind_partial()
    bound.arguments.update(arguments)
    try:
        with patched(recorder):
            recorder.active = True
            result = root(*bound.args, **bound.kwargs)
            recorder.active = False
            output, output_template = nested.flatten(result)
            output = _returned(recorder, output, nested.paths(output_template))
            recorder.active = True
            recorder.output(output)
            recorder.active = False
            state.record(recorder)
    except PackifyError:
        raise
    except Exception as error:
        raise _refused(error, session, inputs) from error
    finally:
        recorder.active = False
        state.restore()
    _drop_unused(recorder.graph)
    return recorder, output_template


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
        recorder.note(
            f"None is returned instead of a {type(leaves[index]).__name__}", "a graph makes tensors", f"output {paths[index]}".rstrip()
        )
    return [None if index in strange else leaf for index, leaf in enumerate(leaves)]


_RETURNED = (torch.Tensor, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.layout, enum.Enum)


def _held_tensors(root: nn.Module) -> set[int]:
    """Tensors that modules hold as plain attributes, also in lists and dicts."""
    held = (item for module in root.modules() for key, value in vars(module).items() if key not in _REGISTERED for item in leaves_of(value))
    return {id(item) for item in held if isinstance(item, torch.Tensor)}


_REGISTERED = ("_parameters", "_buffers", "_modules")


def _stand_in(leaf: Any, batch: int | None) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    shape = leaf.shape if batch is None else (batch, *leaf.shape[1:])
    return torch.empty(shape, dtype=leaf.dtype, device="meta")


def _labels(template: Any) -> list[str]:
    return [path.replace(".", "_") or "input" for path in nested.paths(template)]


def _wrap(root: nn.Module, recorder: Recorder, leaves: tuple[type[nn.Module], ...]) -> None:
    """Give every submodule of the copy a forward that keeps the scope, or that records the module as one node."""
    for path, module in root.named_modules():
        if isinstance(module, torch.jit.ScriptModule) or "forward" in vars(module):
            continue
        vars(module)["forward"] = (
            _recorded(module, path, recorder) if path and _is_leaf(module, leaves) else _scoped(module, path, recorder)
        )


def _is_leaf(module: nn.Module, leaves: tuple[type[nn.Module], ...]) -> bool:
    if isinstance(module, leaves):
        return True
    own = next((kind for kind in DEFAULT_LEAVES if isinstance(module, kind)), None)
    return (
        own is not None
        and type(module).forward is own.forward
        and not hasattr(module, "parametrizations")
        and not module._forward_pre_hooks
    )


def _recorded(module: nn.Module, path: str, recorder: Recorder) -> Callable[..., Any]:
    forward = module.forward
    return lambda *args, **kwargs: recorder.leaf(module, path, forward, args, kwargs)


def _scoped(module: nn.Module, path: str, recorder: Recorder) -> Callable[..., Any]:
    forward = module.forward

    def scoped(*args: Any, **kwargs: Any) -> Any:
        recorder.scope.append(path)
        try:
            return forward(*args, **kwargs)
        finally:
            recorder.scope.pop()

    return scoped


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


def _drop_unused(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output", "call_module") and not node.meta.get("inplace"):
            graph.erase_node(node)


def _renamed(run: Recorder, start: int) -> Recorder:
    """Constants of the second graph under names that the first has not used."""
    renamed = {name: f"_constant_{start + index}" for index, name in enumerate(run.constants)}
    for node in run.graph.find_nodes(op="get_attr"):
        node.target = renamed.get(node.target, node.target)
    run.constants = {renamed[name]: tensor for name, tensor in run.constants.items()}
    return run
