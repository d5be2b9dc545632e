"""Initial weights of 40 families: a scheme per kind of layer, and the standard deviations that the reference's own constructor gives.

A member at half the width is compared with the family's next size down, where there is one of that width; otherwise a member at the
reference's own width with the reference. Once as packify builds the network itself, whose calls it has seen, and once as a user brings
it, when only its numbers tell.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.core.report import Report
from packify.nn.initialisation import initialise_members
from packify.sources import resolve
from tests.zoo import numeric
from tests.zoo.outcome import Outcome

_ALL = numeric.installed_representatives()
# A name, and the network of the same family at half its width; empty where there is none.
FAMILIES = {
    "deit_small_patch16_224": "",
    "vit_small_patch16_224": "vit_tiny_patch16_224",
    "deit3_small_patch16_224": "",
    "beit_base_patch16_224": "",
    "eva02_tiny_patch14_224": "",
    "cait_s24_224": "cait_xxs24_224",
    "xcit_small_12_p16_224": "xcit_tiny_12_p16_224",
    "pvt_v2_b1": "pvt_v2_b0",
    "mobilevitv2_100": "mobilevitv2_050",
    "swin_tiny_patch4_window7_224": "",
    "swinv2_tiny_window8_256": "",
    "convnext_tiny": "",
    "convnextv2_tiny": "convnextv2_femto",
    "resnet18": "",
    "resnetv2_50": "",
    "nf_resnet50": "",
    "nf_regnet_b1": "",
    "dm_nfnet_f0": "",
    "regnetx_002": "",
    "efficientnet_b0": "",
    "mobilenetv3_small_100": "",
    "mnasnet_100": "",
    "densenet121": "",
    "dla34": "",
    "mixer_s16_224": "",
    "gmlp_s16_224": "",
    "resmlp_12_224": "",
    "poolformer_s12": "",
    "coat_tiny": "",
    "levit_128s": "",
    "crossvit_9_240": "",
    "halonet26t": "",
    "botnet26t_256": "",
    "edgenext_xx_small": "",
    "mvitv2_tiny": "",
    "maxvit_pico_rw_256": "",
    "torchvision:vit_b_32": "",
    "torchvision:mobilenet_v2": "",
    "torchvision:regnet_y_400mf": "",
    "torchvision:googlenet": "",
}
# More schemes in one kind of layer than one, and why.
ODD = {
    "beit_base_patch16_224": "each residual branch is divided by the root of its depth",
    "eva02_tiny_patch14_224": "each residual branch is divided by the root of its depth",
}


def reference_of(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    reference = resolve(name)
    return reference.model, reference.example(2)


@pytest.mark.families
@pytest.mark.parametrize("seen", [True, False], ids=["built", "brought"])
@pytest.mark.parametrize("name", FAMILIES)
def test_initial_weights_of_a_family(name: str, seen: bool) -> None:
    model, x = reference_of(name)
    wanted = reference_of(FAMILIES[name])[0] if FAMILIES[name] else model
    if not seen:
        model = copy.deepcopy(model)  # of a copy nobody knows how it was built
    settings = {"alpha": 1, "num_estimators": 2} if FAMILIES[name] else {"alpha": 1, "num_estimators": 1}
    packed = packify.pack(model, x, **settings)  # type: ignore[arg-type]
    assert not [note for note in packed.report.notes if "trained" in note.what]
    differing = list(_differing(packed.extract(0), wanted))
    assert not differing, "\n".join(differing[:10])
    if name not in ODD:
        assert not list(_odd(packed.report)), list(_odd(packed.report))


@pytest.mark.families
@pytest.mark.parametrize("row", _ALL, ids=lambda row: row.label)
def test_weights_drawn_again_at_the_references_own_widths(row: Outcome) -> None:
    """Every family's, zeros and identities among them: what is written over a draw counts as much as the draw."""
    model, again = resolve(row.label).model, resolve(row.label).model
    shapes = {name: tuple(tensor.shape) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    initialise_members(again, model, shapes, 1, seed=1)
    assert not list(_differing(again, model))
    zeros = [[float((tensor == 0).double().mean()) for tensor in network.parameters()] for network in (again, model)]
    assert zeros[0] == pytest.approx(zeros[1], abs=0.02)


def _differing(member: nn.Module, wanted: nn.Module) -> Iterator[str]:
    """The tensors whose standard deviations are further apart than 2 % and what chance explains."""
    own, theirs = dict(member.named_parameters()), dict(wanted.named_parameters())
    # the next size down may be less deep, and round a few widths otherwise
    alike = [name for name, tensor in own.items() if name in theirs and theirs[name].shape == tensor.shape]
    assert len(alike) > 0.8 * len(theirs)
    for name in alike:
        tensor = own[name]
        drawn, there = tensor.detach().double(), theirs[name].detach().double()
        if drawn.numel() < 2 or there.numel() < 2:
            continue
        a, b = float(drawn.std()), float(there.std())
        chance = 5 * math.sqrt(1 / (2 * drawn.numel()) + 1 / (2 * there.numel()))
        strays = float(there.abs().max()) > 12 * b  # a clamped infinity of an inverse error function
        if not strays and abs(a - b) > (0.02 + chance) * max(a, b):
            yield f"{name} {tuple(drawn.shape)}: std {a:.4g}, the reference's own constructor gives {b:.4g}"
        own_mean, their_mean = float(drawn.mean()), float(there.mean())
        if abs(own_mean - their_mean) > 5 * (max(a, b) + 1e-12) * math.sqrt(1 / drawn.numel() + 1 / there.numel()):
            yield f"{name} {tuple(drawn.shape)}: mean {own_mean:.4g}, the reference's own constructor gives {their_mean:.4g}"


def _odd(report: Report) -> Iterator[str]:
    """Kinds of drawn weights with more than one scheme among those drawn, the head of the network left out."""
    for kind in report.schemes:
        drawn = {
            scheme
            for name, scheme in report.initialised.items()
            if name in kind.odd or scheme == kind.scheme
            if not any(word in scheme for word in ("constant", "zero", "ones_", "fill_"))
            if not name.startswith(("head", "fc", "classifier", "stem", "patch_embed"))
        }
        own = {kind.odd[name] for name in kind.odd} & drawn
        if len(own) > 2 and kind.kind.endswith("weight"):
            yield f"{kind}"
