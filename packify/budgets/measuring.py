"""One run of a graph on meta tensors, with a batch of one: what every node multiplies, and which memory is alive when.

Nothing is allocated and no formula for a batch size is needed: the counts are of one sample because one sample runs.
A graph that holds the batch size of its example as a constant cannot run with another one; it runs as it was recorded, and what
depends on the inputs is divided by that batch size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import saved_tensors_hooks

from packify.budgets.batch_norm import trained_batch_norm
from packify.budgets.counters import node_mult_adds
from packify.capture.binding import arguments
from packify.capture.shapes import known_result
from packify.capture.values import recurrent_result
from packify.core import nested
from packify.core.errors import PackifyError, TraceError
from packify.nn.functional import grouped_linear, packed_linear
from packify.ops.table import RULES

Storages = dict[int, int]
"""Bytes by storage: tensors that share memory (views, in-place results) share one entry."""


@dataclass(frozen=True)
class Step:
    """One node of a run.

    Attributes:
        name: the node's name.
        path: qualified name of the module that was running.
        op: canonical operator name, or the class of a module that was kept whole.
        mult_adds: Mult-Adds of one sample, convention ``macs``.
        output_shape: the shape of its (first) tensor, or None.
        reads: attributes (parameters, buffers) that it takes directly.
    """

    name: str
    path: str
    op: str
    mult_adds: int
    output_shape: tuple[int, ...] | None
    reads: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Run:
    """The steps of one run and its activations, in bytes per sample.

    Attributes:
        input_bytes: the inputs.
        peak_bytes: the most that is alive at once in inference, inputs included, weights excluded.
    """

    steps: list[Step]
    input_bytes: int
    peak_bytes: int


@dataclass
class Network:
    """A graph with what it reads: parameters and buffers of `root`, and `constants`.

    Attributes:
        rules: every operator's row, which says what it costs.
        inputs: meta tensors (or plain values) for the placeholders, as recorded.
        batch: the leading size that all inputs share, or None when they share none.
    """

    root: nn.Module
    graph: fx.Graph
    inputs: list[Any]
    batch: int | None
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    rules: Mapping[Any, Any] = field(default_factory=lambda: RULES)


def network(
    root: nn.Module, graph: fx.Graph, constants: Mapping[str, Tensor], *, batched: bool, rules: Mapping[Any, Any] = RULES
) -> Network:
    """A graph ready to be measured; its placeholders' meta values are the inputs."""
    inputs = [node.meta["val"] for node in graph.nodes if node.op == "placeholder"]
    sizes = {value.shape[0] for value in inputs if isinstance(value, Tensor) and value.dim()}
    return Network(root, graph, inputs, sizes.pop() if batched and len(sizes) == 1 else None, constants, rules)


def measure(network: Network, dtype: torch.dtype | None = None) -> Run:
    """Run a network's graph once for one sample, in evaluation mode.

    Args:
        dtype: floating tensors are taken to have this type; by default, the one they have.

    Raises:
        TraceError: the graph does not run on meta tensors.
    """
    with _mode(network.root, training=False), torch.no_grad(), torch.device("meta"):
        try:
            recorder = _Recorder(network)
            recorder.run(*_with_batch(network, 1))
            divisor = 1
        except Exception:  # a constant of the graph may hold the example's batch size
            recorder = _Recorder(network)
            try:
                recorder.run(*network.inputs)
            except PackifyError:
                raise
            except Exception as error:
                raise _refused(error, recorder) from error
            divisor = network.batch or 1
    steps = recorder.steps if divisor == 1 else _per_sample(network.graph, recorder.steps, divisor)
    inputs, peak = recorder.peak(dtype)
    return Run(steps, -(-inputs // divisor), -(-peak // divisor))


def kept_for_backward(network: Network, dtype: torch.dtype | None = None) -> int:
    """Bytes of activations that autograd keeps for the backward pass in training, per sample.

    Measured by the hooks of autograd on a batch of two (batch norm refuses one); parameters and buffers are not counted.

    Raises:
        TraceError: the graph does not run on meta tensors.
    """
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[_storage_id(tensor)] = tensor
        return tensor

    batch = 2 if network.batch is not None else 1
    with _mode(network.root, training=True), torch.enable_grad(), torch.device("meta"), saved_tensors_hooks(pack, lambda tensor: tensor):
        recorder = _Recorder(network, count=False)
        try:
            recorder.run(*_with_batch(network, batch))
        except Exception:  # as in `measure`
            kept.clear()
            recorder = _Recorder(network, count=False)
            batch = network.batch or 1
            try:
                recorder.run(*network.inputs)
            except PackifyError:
                raise
            except Exception as error:
                raise _refused(error, recorder) from error
    weights = {_storage_id(tensor) for tensor in recorder.attributes.values()}
    total = sum(_bytes(tensor, dtype) for storage, tensor in kept.items() if storage not in weights)
    return -(-total // batch)


class _Recorder(fx.Interpreter):
    """Runs a graph node by node and keeps every value, so that storages are told apart by identity."""

    def __init__(self, network: Network, *, count: bool = True) -> None:
        super().__init__(network.root, garbage_collect_values=False, graph=network.graph)
        tensors = (*network.root.named_parameters(remove_duplicate=False), *network.root.named_buffers(remove_duplicate=False))
        self.attributes: dict[str, Tensor] = dict(tensors) | {name: tensor.to("meta") for name, tensor in network.constants.items()}
        self.count, self.rules = count, network.rules
        self.steps: list[Step] = []
        self.current: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.current = n
        if n.op == "get_attr":
            return self.attributes[str(n.target)]
        if n.op in ("placeholder", "output"):
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        value = self._call(n, args, kwargs)
        if self.count:
            self.steps.append(self._step(n, args, kwargs, value))
        return value

    def _call(self, n: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if n.target is grouped_linear:  # a packed network computes it this way, which keeps less for backward
            given = arguments(n, values=(args, kwargs))
            return packed_linear(given["input"].unsqueeze(0), given["weight"], given["bias"], 1, given["groups"]).squeeze(0)
        if self.count and n.op == "call_module":
            module = self.module.get_submodule(str(n.target))
            if isinstance(module, nn.RNNBase):
                return recurrent_result(module, args[0])
            if isinstance(module, nn.modules.batchnorm._NormBase):
                return torch.empty_like(args[0])  # a norm on meta tensors takes longer than all else together
        known = known_result(n.target, args, kwargs) if self.count else trained_batch_norm(n, self.module, args, kwargs)
        return getattr(self, n.op)(n.target, args, kwargs) if known is None else known

    def _step(self, n: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> Step:
        op = n.meta["op"]
        module = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        mult_adds = node_mult_adds(self.rules, n, (args, kwargs), value, module)
        first = next(_tensors(value), None)
        path = str(n.target) if n.op == "call_module" else n.meta.get("path", "")
        reads = frozenset(str(node.target) for node in n.all_input_nodes if node.op == "get_attr")
        return Step(n.name, path, op, mult_adds, None if first is None else tuple(first.shape), reads)

    def peak(self, dtype: torch.dtype | None) -> tuple[int, int]:
        """Bytes of the inputs, and the most bytes alive at once: from the node that makes a storage to the last that uses it."""
        order = {node: index for index, node in enumerate(self.env)}
        sizes: Storages = {}
        born: dict[int, int] = {}
        dies: dict[int, int] = {}
        weights = {_storage_id(tensor) for tensor in self.attributes.values()}
        inputs: set[int] = set()
        for node, value in self.env.items():
            ends = [order[user] for user in node.users if user in order]
            for tensor in _tensors(value):
                storage = _storage_id(tensor)
                if storage in weights:
                    continue
                sizes.setdefault(storage, _bytes(tensor, dtype))
                born.setdefault(storage, order[node])
                dies[storage] = max([dies.get(storage, 0), order[node], *ends])
                if node.op == "placeholder":
                    inputs.add(storage)
        changes = [0] * (len(order) + 1)
        for storage, size in sizes.items():
            changes[0 if storage in inputs else born[storage]] += size
            changes[len(order) if storage in inputs else dies[storage] + 1] -= size
        alive = peak = 0
        for change in changes[:-1]:
            alive += change
            peak = max(peak, alive)
        return sum(sizes[storage] for storage in inputs), peak


class _mode:  # noqa: N801 - a context manager reads like a function
    """Train or eval mode for a module tree, put back afterwards."""

    def __init__(self, root: nn.Module, *, training: bool) -> None:
        self.root, self.training = root, training
        self.was: list[tuple[nn.Module, bool]] = []

    def __enter__(self) -> None:
        self.was = [(module, module.training) for module in self.root.modules()]
        for module, _ in self.was:
            module.training = self.training

    def __exit__(self, *_: object) -> None:
        for module, training in self.was:
            module.training = training


def _with_batch(network: Network, batch: int) -> list[Any]:
    if network.batch is None or network.batch == batch:
        return network.inputs
    return [value.new_empty((batch, *value.shape[1:])) if isinstance(value, Tensor) and value.dim() else value for value in network.inputs]


def _per_sample(graph: fx.Graph, steps: Sequence[Step], batch: int) -> list[Step]:
    """Steps of a run with a batch, each that depends on an input divided by it (rounded up)."""
    from dataclasses import replace

    depends = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(source.name in depends for source in node.all_input_nodes):
            depends.add(node.name)
    return [replace(step, mult_adds=-(-step.mult_adds // batch)) if step.name in depends else step for step in steps]


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in nested.leaves(value) if isinstance(leaf, Tensor))


def _storage_id(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: Tensor, dtype: torch.dtype | None) -> int:
    size = int(tensor.untyped_storage().nbytes())
    if dtype is None or not tensor.is_floating_point():
        return size
    return size * dtype.itemsize // tensor.dtype.itemsize


def _refused(error: Exception, recorder: _Recorder) -> TraceError:
    node = recorder.current
    where = f"{node.name} ({node.meta.get('path', '')}, {node.meta.get('source', '')})" if node is not None else "graph"
    return TraceError(
        where,
        found=f"{type(error).__name__}: {str(error).splitlines()[0]}",
        why="a budget is counted by running the recorded graph on tensors without data, and this operator refused them",
        fix="pass the module that calls it as a leaf: leaves=[ItsType]",
    )
