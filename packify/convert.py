"""The three ways to a packed network: from a reference, from trained members, and for a part of a model."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from packify.alike import same_code, same_shared, same_tensors
from packify.brought import checked_rules
from packify.ensemble import AVERAGES, PackedNetwork, default_average, origin
from packify.errors import PackError, SpecError
from packify.initialise import initialise
from packify.layers.packed import pack_layer
from packify.layers.tree import build_tree, kept_names
from packify.network import Interface, MemberNetwork
from packify.notes import hook_notes, learns, unused_leaves, unused_rules
from packify.packing.pack import changed_in_place, pack_graph
from packify.recording import recorded
from packify.reference import plain_module
from packify.report import Note, Report
from packify.rules.table import merged
from packify.spec import GammaPolicy, Spec, whole
from packify.tracing import Traced, structure, trace, with_concrete_args
from packify.widths.slim import Member, slim


@torch.inference_mode(False)
def pack(
    model: nn.Module,
    example_inputs: Any,
    *,
    alpha: float,
    num_estimators: int,
    gamma: int = 1,
    gamma_policy: GammaPolicy = "paper",
    min_channels_per_group: int = 64,
    round_to: int = 1,
    seed: int = 0,
    inputs: str = "shared",
    average: Any = None,
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    rules: Mapping[Any, Any] | None = None,
) -> PackedNetwork:
    """A Packed-Ensemble of `model`: PE-(alpha, M, gamma) with freshly drawn members. `model` is not changed.

    Args:
        model: the reference; one on the meta device gives a packed network on the meta device.
        example_inputs: a tensor, a tuple or a dict for ``forward``; shapes and dtypes are read, data is not.
        alpha, num_estimators, gamma: the paper's three numbers.
        gamma_policy, min_channels_per_group, round_to: see `Spec`.
        seed: of the members' initial weights.
        inputs: ``"shared"``, or ``"independent"`` for inputs ``"(m b) ..."``.
        average: ``"probs"`` for logits, ``"mean"`` for values, ``"none"``, a list or a dict of them by output, or None to choose by
            the output's shape. Whole numbers and booleans are voted on.
        leaves: module types to keep whole.
        concrete_args: arguments of ``forward`` by name that have this value for good, such as a flag that chooses a branch.
        rules: operator rules of your own, by function or by operator name.

    Raises:
        SpecError: a number is out of range.
        TraceError: the model cannot be recorded.
        PackError: a node cannot be slimmed or packed.
    """
    spec = Spec(alpha, num_estimators, gamma, gamma_policy, min_channels_per_group, round_to)
    seed = whole("seed", seed, 0, 2**63)
    model, rules = plain_module(model), checked_rules(rules or {})
    table = merged(rules)
    example_inputs = with_concrete_args(model, example_inputs, concrete_args)
    traced = recorded(model, example_inputs, leaves)
    try:
        member = slim(traced, spec, table)
        packed = assemble(member, example_inputs, model, inputs=inputs, average=average, rules=table)
    except RuntimeError as error:
        if not _TOO_LARGE.search(str(error)):
            raise
        raise _too_large(error, spec) from error
    packed.report.notes += unused_rules(rules, table, traced)
    if not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        shapes = {name: tuple(tensor.shape) for name, tensor in (*member.root.named_parameters(), *member.root.named_buffers())}
        packed.report.initialised = initialise(packed, model, shapes, num_estimators, seed)
    return packed


@torch.inference_mode(False)
def pack_members(
    networks: Iterable[nn.Module],
    example_inputs: Any,
    *,
    inputs: str = "shared",
    average: Any = None,
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    rules: Mapping[Any, Any] | None = None,
) -> PackedNetwork:
    """Networks of one architecture as one packed network (alpha = M, gamma = 1): a Deep Ensemble in one forward pass.

    Its layers are in the modes, train or eval, that those of the first network are in.

    Raises:
        PackError: the networks differ in the names, shapes or dtypes of their tensors, in what they compute or in a layer's settings.
    """
    given: Any = networks
    if not isinstance(given, Iterable) or isinstance(given, nn.Sequential):
        raise _no_networks(f"a {type(given).__name__}")
    plain = [plain_module(network, f"networks[{index}]") for index, network in enumerate(given)]
    if not plain:
        raise _no_networks("none")
    same_tensors(plain)
    rules = checked_rules(rules or {})
    table, members = merged(rules), len(plain)
    example_inputs = with_concrete_args(plain[0], example_inputs, concrete_args)
    traced = recorded(plain[0], example_inputs, leaves)
    for index, network in enumerate(plain[1:], 1):
        same_code(index, trace(network, example_inputs, leaves=traced.leaves), traced)
        same_shared(index, network, plain[0], traced)
    member = slim(traced, Spec(members, members), table)
    packed = assemble(member, example_inputs, plain[0], inputs=inputs, average=average, rules=table)
    notes = [*(note for network in plain for note in hook_notes(network)), *unused_rules(rules, table, traced)]
    packed.report.notes += [note for note in dict.fromkeys(notes) if note not in packed.report.notes]
    states = [dict((*network.named_parameters(), *network.named_buffers())) for network in plain]
    with torch.no_grad():
        for name, tensor in (*packed.named_parameters(), *packed.named_buffers()):
            if name not in states[0] or tensor.is_meta:
                continue
            shares = tensor.chunk(members) if tensor.dim() else [tensor]
            for share, state in zip(shares, states, strict=False):
                share.copy_(state[name].view(share.shape))
    return packed


def _no_networks(found: str) -> SpecError:
    return SpecError(
        "networks",
        found=found,
        why="an ensemble has at least one member, and each is a network",
        fix="pass packify.pack_members([net_a, net_b], example_inputs)",
    )


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
    model = plain_module(model)
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


def assemble(
    member: Member, example_inputs: Any, model: nn.Module, *, inputs: str, average: Any, rules: Mapping[Any, Any]
) -> PackedNetwork:
    """The packed network of a member, its tensors allocated where the reference's are and not yet filled."""
    if inputs not in ("shared", "independent"):
        raise SpecError(
            "inputs",
            found=repr(inputs),
            why="members see one shared batch or independent ones",
            fix='pass inputs="shared" or inputs="independent"',
        )
    traced, members = member.traced, member.spec.num_estimators
    devices = {
        name: tensor.device
        for name, tensor in (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    }

    written = {name for graph in member.graphs.values() for name in changed_in_place(graph)}

    def allocate(name: str, tensor: Tensor) -> Tensor:
        counted = isinstance(tensor, nn.Parameter) or tensor.dim() or name in written
        shape = (members * tensor.shape[0], *tensor.shape[1:]) if tensor.dim() else (members,) if counted else ()
        return torch.empty(shape, dtype=tensor.dtype, device=devices.get(name, "cpu"))

    root = build_tree(member.root, allocate, traced.leaves)
    widths = {name: module.in_features for name, module in member.root.named_modules() if isinstance(module, nn.Linear)}
    gammas = {layer.name: layer.gamma for layer in member.layers}
    graphs = {
        id(graph): pack_graph(graph, root, members, rules, independent=inputs == "independent", written=written)
        for graph in member.graphs.values()
    }
    ungrouped = set.intersection(*(graph.ungrouped for graph in graphs.values()))
    whole = kept_names(root, traced.leaves)
    for name, module in root.named_modules():
        if name not in whole:
            pack_layer(module, members, width=widths.get(name, 0) * gammas.get(name, 1), shared_input=f"{name}.weight" in ungrouped)
    where = next(iter(devices.values()), torch.device("cpu"))
    for tree in (root, member.root):
        for name, constant in member.constants.items():
            tree.register_buffer(name, constant.detach().to("meta" if tree is member.root else where), persistent=False)
    for tree in (root, member.root):
        _match_modes(tree, model)
    interface = Interface(traced.signature, traced.input_template, traced.outputs)
    averages = _averages(member, average)
    report = _report(member, model, graphs, averages, traced)
    packed = PackedNetwork(
        root,
        {mode: graphs[id(graph)].graph for mode, graph in member.graphs.items()},
        MemberNetwork(member.root, member.graphs, interface),
        interface,
        spec=member.spec,
        report=report,
        average=averages,
        inputs=inputs,
        example_inputs=_shapes_only(example_inputs),
        batched=traced.any_batch,
        kept=traced.leaves,
    )
    report.packed_params = sum(parameter.numel() for parameter in packed.parameters())
    return packed


def _match_modes(tree: nn.Module, model: nn.Module) -> None:
    modes = {name: module.training for name, module in model.named_modules(remove_duplicate=False)}
    for name, module in tree.named_modules():
        module.training = modes.get(name, model.training)


def _averages(member: Member, average: Any) -> dict[str, list[str]]:
    paths = {mode: structure.paths(output) for mode, output in member.traced.outputs.items()}
    known = {path for mode in paths for path in paths[mode]}
    if isinstance(average, Mapping) and not average.keys() <= known:
        raise _no_average(f"{', '.join(map(repr, average.keys() - known))} among the outputs", f"the outputs are {sorted(known)}")
    if isinstance(average, (list, tuple)) and len(average) != len(paths["eval"]):
        raise _no_average(f"{len(average)} for {len(paths['eval'])} outputs", f"the outputs are {paths['eval']}")
    result = {}
    for mode, graph in member.graphs.items():
        (output,) = graph.find_nodes(op="output")
        leaves = output.args[0]
        result[mode] = [_average_of(leaf, path, index, average) for index, (leaf, path) in enumerate(zip(leaves, paths[mode], strict=True))]
    return result


def _average_of(leaf: Any, path: str, index: int, average: Any) -> str:
    how = average
    if isinstance(average, Mapping):
        how = average.get(path)
    elif isinstance(average, (list, tuple)):
        how = average[index] if index < len(average) else None
    if how is not None and how not in AVERAGES:
        raise _no_average(repr(how), f"outputs are averaged as one of {', '.join(AVERAGES)}")
    if not hasattr(leaf, "meta"):
        return str(how or "mean")
    chosen = default_average(leaf.meta["val"], origin(leaf))
    value = leaf.meta["val"]
    numbers = isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
    return chosen if how is None or (how != "none" and not numbers) else str(how)


def _no_average(found: str, why: str) -> SpecError:
    return SpecError("average", found=found, why=why, fix='pass average="probs" for logits, average="mean" for values')


def _report(member: Member, model: nn.Module, graphs: Mapping[int, Any], averages: Mapping[str, list[str]], traced: Traced) -> Report:
    paths = structure.paths(traced.outputs["eval"])
    report = Report(member.spec, member.layers, member.pins, member.rounded, member.lowered)
    report.averages = dict(zip(paths, averages["eval"], strict=True))
    report.reference_params = sum(parameter.numel() for parameter in model.parameters())
    report.member_params = member.params
    for graph in graphs.values():
        report.relayouts += [note for note in graph.relayouts if note not in report.relayouts]
        report.fallbacks += [note for note in graph.fallbacks if note not in report.fallbacks]
    read = {str(node.target) for graph in traced.graphs.values() for node in graph.nodes if node.op in ("get_attr", "call_module")}
    unused = [name for name, _ in model.named_parameters() if name not in read and not any(name.startswith(f"{kept}.") for kept in read)]
    for owner in dict.fromkeys(name.rpartition(".")[0] for name in unused):
        report.notes.append(Note(owner or type(model).__name__, "", "keeps the reference's size", "forward never uses it"))
    report.notes += traced.notes
    report.notes += hook_notes(model)
    report.notes += unused_leaves(traced.leaves, model)
    if not learns(traced):
        report.notes.append(Note(type(model).__name__, "", "no output depends on a parameter", "all members return the same"))
    return report


def _shapes_only(example_inputs: Any) -> Any:
    return structure.walk(example_inputs, lambda leaf: torch.empty_like(leaf, device="meta") if isinstance(leaf, Tensor) else leaf)


# What torch says when sizes or memory are out of reach.
_TOO_LARGE = re.compile("overflow|can't allocate memory|out of memory", re.IGNORECASE)


def _too_large(error: RuntimeError, spec: Spec) -> SpecError:
    return SpecError(
        "alpha",
        found=f"alpha={spec.alpha:g}, M={spec.num_estimators}: {error}".splitlines()[0],
        why="a packed network has about alpha ** 2 / (M * gamma) of the reference's parameters, which is more than fits in memory",
        fix="pass a smaller alpha, or ask packify.budget for the cost",
    )
