"""One run of a graph on meta tensors, with a batch of one: what every node multiplies, and which memory is alive when.

Nothing is allocated and no formula for a batch size is needed: the counts are of one sample because one sample runs.
A graph that holds the batch size of its example as a constant cannot run with another one; it runs as it was recorded, and what
depends on the inputs is divided by that batch size.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from packify.budgets.batch_norm import normalised, trained_batch_norm
from packify.budgets.counters import node_mult_adds
from packify.budgets.effects import Block, Effects, Outcome, Storage, nbytes
from packify.capture.binding import arguments
from packify.capture.remembered import Layout
from packify.capture.values import recurrent_result
from packify.core import nested
from packify.core.errors import PackifyError, TraceError
from packify.nn.functional import grouped_linear, packed_linear
from packify.ops.table import RULES


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
    """A graph with what it reads: parameters and buffers of `root`, and constants.

    Attributes:
        rules: every operator's row, which says what it costs.
        inputs: meta tensors (or plain values) for the placeholders, as recorded.
        batch: the leading size that all inputs share, or None when they share none.
        attributes: the blocks of parameters, buffers and constants; graphs of one module tree share them.
    """

    root: nn.Module
    graph: fx.Graph
    inputs: list[Any]
    batch: int | None
    attributes: dict[str, Block]
    rules: Mapping[Any, Any] = field(default_factory=lambda: RULES)


def attributes_of(root: nn.Module, constants: Mapping[str, Tensor]) -> dict[str, Block]:
    """The blocks of parameters, buffers and constants by name; those that share memory share a storage."""
    storages: dict[int, Storage] = {}
    blocks: dict[str, Block] = {}
    held = [
        (f"{path}.{name}" if path else name, tensor)
        for path, module in root.named_modules(remove_duplicate=False)
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    ]
    for name, tensor in (*held, *constants.items()):
        memory = tensor.untyped_storage()
        storage = storages.setdefault(memory._cdata, Storage(int(memory.nbytes())))
        blocks[name] = Block(Layout.of(tensor), storage)
    return blocks


def network(
    root: nn.Module,
    graph: fx.Graph,
    constants: Mapping[str, Tensor],
    *,
    batched: bool,
    attributes: dict[str, Block] | None = None,
    rules: Mapping[Any, Any] = RULES,
) -> Network:
    """A graph ready to be measured; its placeholders' meta values are the inputs."""
    attributes = attributes_of(root, constants) if attributes is None else attributes
    inputs = [node.meta["val"] for node in graph.nodes if node.op == "placeholder"]
    sizes = {value.shape[0] for value in inputs if isinstance(value, Tensor) and value.dim()}
    return Network(root, graph, inputs, sizes.pop() if batched and len(sizes) == 1 else None, attributes, rules)


def measure(network: Network, dtype: torch.dtype | None = None, effects: Effects | None = None) -> Run:
    """Run a network's graph once for one sample, in evaluation mode.

    Args:
        dtype: floating tensors are taken to have this type; by default, the one they have.
        effects: what is known of calls from runs before.

    Raises:
        TraceError: the graph does not run on meta tensors.
    """
    with _mode(network, training=False), torch.no_grad():
        run, batch = _run(network, 1, effects or Effects(), count=True)
    steps = run.steps if batch == 1 else _per_sample(network.graph, run.steps, batch)
    inputs, peak = run.peak(dtype)
    return Run(steps, -(-inputs // batch), -(-peak // batch))


def kept_for_backward(network: Network, dtype: torch.dtype | None = None, effects: Effects | None = None) -> int:
    """Bytes of activations that autograd keeps for the backward pass in training, per sample.

    Measured by the hooks of autograd on a batch of two (batch norm refuses one); parameters and buffers are not counted.

    Raises:
        TraceError: the graph does not run on meta tensors.
    """
    with _mode(network, training=True), torch.enable_grad():
        run, batch = _run(network, 2, effects or Effects(), count=False)
    weights = {block.storage for block in run.attributes.values()}
    total = sum(nbytes(storage, own, dtype) for storage, own in run.kept.items() if storage not in weights)
    return -(-total // batch)


def _run(network: Network, batch: int, effects: Effects, *, count: bool) -> tuple[_GraphRun, int]:
    """A run with a batch of this size, or as it was recorded where a constant of the graph holds the example's; and its batch size."""
    try:
        run = _GraphRun(network, effects, count=count)
        run.go(_with_batch(network, batch if network.batch is not None else 1))
    except Exception:
        run = _GraphRun(network, effects, count=count)
        try:
            run.go(network.inputs)
        except PackifyError:
            raise
        except Exception as error:
            raise _refused(error, run) from error
        return run, network.batch or 1
    return run, batch if network.batch is not None else 1


class _GraphRun:
    """One run of a graph, node by node; every value is kept, so that storages are told apart by identity.

    Attributes:
        attributes: the network's.
        steps: what every node multiplies, if that is counted.
        kept: the storages that autograd keeps, and the type of what lies in them.
        current: the node that runs.
    """

    def __init__(self, network: Network, effects: Effects, *, count: bool) -> None:
        self.network, self.effects, self.count = network, effects, count
        self.attributes = network.attributes
        self.steps: list[Step] = []
        self.kept: dict[Storage, torch.dtype] = {}
        self.env: dict[fx.Node, Any] = {}
        self.current: fx.Node | None = None

    def go(self, inputs: Sequence[Any]) -> None:
        """Run the graph."""
        given = iter(inputs)
        for node in self.network.graph.nodes:
            self.current = node
            if node.op == "placeholder":
                value = next(given)
                self.env[node] = Block.of(value) if isinstance(value, Tensor) else value
            elif node.op == "get_attr":
                self.env[node] = self.attributes[str(node.target)]
            elif node.op == "output":
                self.env[node] = fx.node.map_arg(node.args[0], self.env.__getitem__)
            else:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.env.__getitem__)
                outcome = self._call(node, args, kwargs)
                self.env[node] = outcome.value
                if outcome.changed is not None and outcome.changed.layout != args[0].layout:
                    self.env |= {one: outcome.changed for one, value in self.env.items() if value is args[0]}
                self.kept.update(outcome.kept)
                if self.count:
                    self.steps.append(_step(node, outcome))

    def _call(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
        target: Any = node.target
        module = self.network.root.get_submodule(str(target)) if node.op == "call_module" else None
        count = functools.partial(_counted, self.network.rules, node, module) if self.count else _uncounted
        if module is not None:
            return self._module(module, str(target), args, kwargs, count)
        function = getattr(Tensor, target) if node.op == "call_method" else target
        if target is grouped_linear:  # a packed network computes it this way, which keeps less for backward
            function = functools.partial(_packed_as_one, node)
        elif target is F.batch_norm and not self.count:
            function = trained_batch_norm
        changes = bool(node.meta.get("inplace"))
        return self.effects.of((node.meta["op"], target, changes, self.count), function, args, kwargs, count, changes=changes)

    def _module(self, module: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], count: Any) -> Outcome:
        run: Any = module
        if isinstance(module, nn.modules.batchnorm._NormBase) and self.count:
            return self.effects.of("norm", torch.empty_like, args, kwargs, _uncounted)  # its arithmetic takes longer than all else together
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            affine = (self.attributes.get(f"{path}.weight"), self.attributes.get(f"{path}.bias"))
            return self.effects.of("batch norm", normalised, (*args, *affine), kwargs, count)
        if isinstance(module, nn.RNNBase) and self.count:
            run = functools.partial(_recurrent, module)
        return self.effects.of(None, run, args, kwargs, count, own=(*module.parameters(), *module.buffers()))

    def peak(self, dtype: torch.dtype | None) -> tuple[int, int]:
        """Bytes of the inputs, and the most bytes alive at once: from the node that makes a storage to the last that uses it."""
        order = {node: index for index, node in enumerate(self.env)}
        sizes: dict[Storage, int] = {}
        born: dict[Storage, int] = {}
        dies: dict[Storage, int] = {}
        weights = {block.storage for block in self.attributes.values()}
        inputs: set[Storage] = set()
        for node, value in self.env.items():
            ends = [order[user] for user in node.users if user in order]
            for block in _blocks(value):
                storage = block.storage
                if storage in weights:
                    continue
                sizes.setdefault(storage, block.nbytes(dtype))
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


def _packed_as_one(node: fx.Node, *args: Any, **kwargs: Any) -> Tensor:
    given = arguments(node, values=(args, kwargs))
    return packed_linear(given["input"].unsqueeze(0), given["weight"], given["bias"], 1, given["groups"], given["parts"]).squeeze(0)


def _counted(rules: Mapping[Any, Any], node: fx.Node, module: nn.Module | None, args: Any, kwargs: Any, value: Any) -> int:
    return node_mult_adds(rules, node, (args, kwargs), value, module)


def _recurrent(module: nn.RNNBase, sequence: Tensor, *state: Any) -> Any:
    return recurrent_result(module, sequence)


def _uncounted(args: Any, kwargs: Any, value: Any) -> int:
    return 0


def _step(node: fx.Node, outcome: Outcome) -> Step:
    first = next(_blocks(outcome.value), None)
    path = str(node.target) if node.op == "call_module" else node.meta.get("path", "")
    reads = frozenset(str(source.target) for source in node.all_input_nodes if source.op == "get_attr")
    return Step(node.name, path, node.meta["op"], outcome.mult_adds, None if first is None else first.layout.shape, reads)


class _mode:  # noqa: N801 - a context manager reads like a function
    """Train or eval mode for the modules that a graph calls, put back afterwards."""

    def __init__(self, network: Network, *, training: bool) -> None:
        self.network, self.training = network, training
        self.was: list[tuple[nn.Module, bool]] = []

    def __enter__(self) -> None:
        paths = {str(node.target) for node in self.network.graph.nodes if node.op == "call_module"}
        called = [self.network.root.get_submodule(path) for path in sorted(paths)]
        self.was = [(part, part.training) for module in called for part in module.modules()]
        for module, _ in self.was:
            vars(module)["training"] = self.training  # nn.Module's own way to set it looks for a parameter of that name first

    def __exit__(self, *_: object) -> None:
        for module, training in self.was:
            vars(module)["training"] = training


def _with_batch(network: Network, batch: int) -> list[Any]:
    if network.batch is None or network.batch == batch:
        return network.inputs
    return [value.new_empty((batch, *value.shape[1:])) if isinstance(value, Tensor) and value.dim() else value for value in network.inputs]


def _per_sample(graph: fx.Graph, steps: Sequence[Step], batch: int) -> list[Step]:
    """Steps of a run with a batch, each that depends on an input divided by it (rounded up)."""
    depends = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(source.name in depends for source in node.all_input_nodes):
            depends.add(node.name)
    return [replace(step, mult_adds=-(-step.mult_adds // batch)) if step.name in depends else step for step in steps]


def _blocks(value: Any) -> Iterator[Block]:
    return (leaf for leaf in nested.leaves(value) if isinstance(leaf, Block))


def _refused(error: Exception, run: _GraphRun) -> TraceError:
    node = run.current
    where = f"{node.name} ({node.meta.get('path', '')}, {node.meta.get('source', '')})" if node is not None else "graph"
    return TraceError(
        where,
        found=f"{type(error).__name__}: {str(error).splitlines()[0]}",
        why="a budget is counted by running the recorded graph on tensors without data, and this operator refused them",
        fix="pass the module that calls it as a leaf: leaves=[ItsType]",
    )
