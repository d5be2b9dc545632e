"""Trained networks of one architecture as one packed network (alpha = M, gamma = 1): a Deep Ensemble in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from packify.capture.graphs import record_graphs
from packify.capture.outputs import choose_outputs
from packify.capture.unwrapping import unwrap
from packify.core.errors import SpecError
from packify.core.spec import Spec
from packify.ensembles.assembly import assemble
from packify.ensembles.checkpoints import StatePath, are_paths, load_members
from packify.ensembles.compatibility import same_code, same_shared, same_tensors
from packify.ensembles.recording import record
from packify.ensembles.report_notes import hook_notes, unused_rules
from packify.ensembles.requirements import require_packable
from packify.nn.packed_network import PackedNetwork
from packify.ops.table import random_operators


@torch.inference_mode(False)
def pack_members(
    networks: Iterable[nn.Module] | Iterable[StatePath],
    example_inputs: Any,
    *,
    model: nn.Module | Callable[[], nn.Module] | None = None,
    inputs: str = "shared",
    average: Any = None,
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    rules: Mapping[Any, Any] | None = None,
) -> PackedNetwork:
    """Networks of one architecture as one packed network (alpha = M, gamma = 1): a Deep Ensemble in one forward pass.

    Its layers are in the modes, train or eval, that those of the first network are in. Parameters that forward never reads are left out:
    a network need not have them.

    Args:
        networks: trained networks; or, with `model`, the files that their weights are in, see `packify.load_members`.
        example_inputs: a tensor, a tuple or a dict for ``forward``; shapes and dtypes are read, data is not.
        model: a network of the checkpoints' architecture, or a function that builds one.
        inputs, average, leaves, concrete_args, outputs, rules: as for `packify.pack`.

    Raises:
        ArtefactError: a checkpoint cannot be read or is of another architecture.
        PackError: the networks differ in the names, shapes or dtypes of their tensors, in what they compute or in a layer's settings.
    """
    given: Any = networks
    if not isinstance(given, Iterable) or isinstance(given, nn.Sequential):
        raise _no_networks(f"a {type(given).__name__}")
    if model is not None or are_paths(given := list(given)):
        given = _loaded(given, model)
    plain = [unwrap(network, f"networks[{index}]") for index, network in enumerate(given)]
    if not plain:
        raise _no_networks("none")
    members = len(plain)
    recording = record(plain[0], example_inputs, leaves=leaves, concrete_args=concrete_args, outputs=outputs, rules=rules)
    recorded = recording.graphs
    same_tensors(plain, recorded.unused)
    require_packable(plain[0], recorded, recording.table)
    for index, network in enumerate(plain[1:], 1):
        other = record_graphs(network, recording.example_inputs, leaves=recorded.leaves, random=random_operators(recording.table))
        choose_outputs(other, outputs)
        same_code(index, other, recorded)
        same_shared(index, network, plain[0], recorded)
    member = recording.slimmer.member(Spec(members, members))
    packed = assemble(member, recording.example_inputs, plain[0], inputs=inputs, average=average, rules=recording.rules)
    notes = [*(note for network in plain for note in hook_notes(network)), *unused_rules(recording.rules, recording.table, recorded)]
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


def _loaded(paths: Any, model: nn.Module | Callable[[], nn.Module] | None) -> list[nn.Module]:
    if model is None:
        raise SpecError(
            "model",
            found="files, and no network",
            why="a checkpoint holds weights, and no code",
            fix="pass packify.pack_members(paths, x, model=network_of_that_architecture)",
        )
    return load_members(model, paths)


def _no_networks(found: str) -> SpecError:
    return SpecError(
        "networks",
        found=found,
        why="an ensemble has at least one member, and each is a network",
        fix="pass packify.pack_members([net_a, net_b], example_inputs)",
    )
