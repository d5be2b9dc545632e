"""The table: every operator that packify knows, by its one name, with its rule. Users extend it, and so do packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch._library.custom_ops import CustomOpDef

from packify.capture.opaque import OpaqueAutogradFunction, OpaqueScriptFunction
from packify.capture.operators import operator_of
from packify.ops import (
    contraction,
    convolution,
    creation,
    gathering,
    indexing,
    joining,
    movement,
    norm,
    plugins,
    pointwise,
    probing,
    recurrent,
    reduce,
    reshaping,
    scattering,
    spatial,
    spectral,
)
from packify.ops.rule import Rule


def _rows(rule: Rule, names: str | list[str]) -> dict[Any, Rule]:
    return dict.fromkeys(names.split() if isinstance(names, str) else names, rule)


RULES: Mapping[Any, Rule] = {
    **_rows(Rule("pointwise", pointwise.elementwise, pointwise.pack), pointwise.NAMES),
    **_rows(
        Rule("pointwise", pointwise.elementwise, pointwise.pack), "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout"
    ),
    **_rows(Rule("pointwise", pointwise.cast, pointwise.pack_cast), "to type type_as"),
    **_rows(Rule("pointwise", pointwise.prelu, pointwise.pack_prelu), "prelu"),
    **_rows(Rule("reduction", reduce.reduction, reduce.pack), reduce.REDUCTIONS),
    **_rows(Rule("along an axis", reduce.along, reduce.pack), reduce.ALONG),
    **_rows(Rule("along an axis", reduce.ordered, reduce.pack), reduce.ORDERED),
    **_rows(Rule("movement", reshaping.reshape, reshaping.pack_reshape, reshaping.refit_sizes), "reshape reshape_as"),
    **_rows(Rule("movement", reshaping.reshape, reshaping.pack_axes), "flatten ravel squeeze unsqueeze"),
    **_rows(Rule("movement", reshaping.reshape, reshaping.pack_axes, reshaping.refit_unflatten), "unflatten"),
    **_rows(Rule("movement", movement.permute, movement.pack_permute), "permute transpose t T mT H mH adjoint movedim"),
    **_rows(Rule("movement", movement.expand, movement.pack_expand, reshaping.refit_sizes), "expand expand_as broadcast_to"),
    **_rows(Rule("movement", movement.repeat, movement.pack_repeat, movement.refit_repeat), "repeat tile"),
    **_rows(Rule("movement", movement.repeat_interleave, movement.pack_repeat_interleave), "repeat_interleave"),
    **_rows(Rule("movement", movement.columns, movement.pack_windows), "unfold"),
    **_rows(Rule("movement", movement.image_of, movement.pack_windows), "fold"),
    **_rows(Rule("movement", movement.pixel_shuffle, movement.pack_shuffle), "pixel_shuffle pixel_unshuffle"),
    **_rows(Rule("movement", movement.channel_shuffle, movement.pack_batchwise), "channel_shuffle native_channel_shuffle"),
    **_rows(Rule("joining", joining.cat, joining.pack_cat), "cat"),
    **_rows(Rule("joining", joining.cat_by_name, joining.pack_cat_by_name), "hstack vstack dstack row_stack column_stack"),
    **_rows(Rule("joining", joining.stack, joining.pack_stack), "stack"),
    **_rows(Rule("joining", joining.pieces, joining.pack_pieces, joining.refit_split), "split"),
    **_rows(Rule("joining", joining.pieces, joining.pack_pieces), "chunk tensor_split"),
    **_rows(Rule("joining", joining.unbind, joining.pack_unbind), "unbind"),
    **_rows(Rule("indexing", indexing.getitem, indexing.pack_getitem, refit=indexing.refit_getitem), "getitem"),
    **_rows(Rule("indexing", indexing.select, indexing.pack_along_dim), "select"),
    **_rows(Rule("indexing", indexing.narrow, indexing.pack_along_dim, refit=indexing.refit_narrow), "narrow"),
    **_rows(Rule("indexing", indexing.index_select, indexing.pack_along_dim), "index_select"),
    **_rows(Rule("indexing", gathering.gather, gathering.pack_gather), "gather"),
    **_rows(Rule("indexing", gathering.take_along_dim, gathering.pack_take_along_dim), "take_along_dim"),
    **_rows(Rule("indexing", indexing.setitem, indexing.pack_setitem, indexing.refit_getitem), "setitem"),
    **_rows(Rule("indexing", indexing.store, indexing.pack_store), "store"),
    **_rows(Rule("joining", joining.pad, joining.pack_pad, refit=joining.refit_pad), "pad"),
    **_rows(Rule("joining", joining.glu, joining.pack_glu), "glu"),
    **_rows(Rule("contraction", contraction.linear, contraction.pack_linear), "linear"),
    **_rows(Rule("contraction", contraction.bilinear, contraction.pack_bilinear), "bilinear"),
    **_rows(Rule("contraction", contraction.embedding, contraction.pack_embedding), "embedding"),
    **_rows(Rule("contraction", convolution.conv, convolution.pack_conv, refit=convolution.refit_conv), "conv1d conv2d conv3d"),
    **_rows(
        Rule("contraction", convolution.conv_transpose, convolution.pack_conv, refit=convolution.refit_conv),
        "conv_transpose1d conv_transpose2d conv_transpose3d",
    ),
    **_rows(Rule("contraction", contraction.matmul, contraction.pack_matmul), "matmul bmm mm mv dot"),
    **_rows(Rule("contraction", contraction.addmm, contraction.pack_addmm), "addmm baddbmm addmv"),
    **_rows(Rule("contraction", contraction.einsum, contraction.pack_einsum), "einsum"),
    **_rows(Rule("contraction", contraction.attention, contraction.pack_attention), "scaled_dot_product_attention"),
    **_rows(
        Rule("norm", norm.per_channel_module, norm.pack_channels),
        "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d",
    ),
    **_rows(Rule("norm", norm.per_channel, norm.pack_channels), "batch_norm instance_norm"),
    **_rows(Rule("norm", norm.group_norm, norm.pack_group_norm, refit=norm.refit_group_norm), "group_norm"),
    **_rows(Rule("norm", norm.layer_norm, norm.pack_layer_norm, refit=norm.refit_layer_norm), "layer_norm rms_norm"),
    **_rows(Rule("contraction", contraction.outer, contraction.pack_outer), "outer ger"),
    **_rows(Rule("contraction", contraction.tensordot, contraction.pack_tensordot), "tensordot"),
    **_rows(Rule("norm", norm.weight_norm, norm.pack_weight_norm), "weight_norm _weight_norm"),
    **_rows(Rule("spatial", spatial.deform_conv), "deform_conv2d"),
    **_rows(Rule("spatial", spatial.regions, spatial.pack_regions), "roi_align roi_pool"),
    **_rows(Rule("norm", norm.local_response_norm, movement.pack_batchwise), "local_response_norm"),
    **_rows(Rule("spatial", spatial.pool, spatial.pack_image), [*spatial.POOLS, "interpolate"]),
    **_rows(Rule("spatial", spatial.grid_sample, spatial.pack_grid_sample), "grid_sample"),
    **_rows(Rule("creation", creation.sized, creation.pack_created, refit=reshaping.refit_factory), creation.SIZED),
    **_rows(Rule("creation", creation.sized, creation.pack_created, refit=reshaping.refit_sizes), creation.NEW),
    **_rows(Rule("creation", creation.sized, creation.pack_created, refit=creation.refit_arange), "arange"),
    **_rows(Rule("creation", creation.sized, creation.pack_created, refit=creation.refit_linspace), "linspace logspace"),
    **_rows(Rule("creation", creation.sized, creation.pack_created, refit=creation.refit_square), "eye randperm"),
    **_rows(Rule("creation", creation.sized, creation.pack_created), "randint"),
    **_rows(Rule("creation", creation.meshgrid, creation.pack_meshgrid), "meshgrid"),
    **_rows(Rule("creation", creation.one_hot, creation.pack_new_axis), "one_hot"),
    **_rows(Rule("indexing", scattering.index_add, scattering.pack), scattering.BY_POSITION),
    **_rows(Rule("indexing", scattering.scatter, scattering.pack), scattering.BY_ELEMENT),
    **_rows(Rule("spectral", spectral.transform, spectral.pack_transform), spectral.TRANSFORMS),
    **_rows(Rule("spectral", spectral.as_complex, spectral.pack_pairs), "view_as_complex"),
    **_rows(Rule("spectral", spectral.as_real, spectral.pack_pairs), "view_as_real"),
    **_rows(Rule("by example", probing.by_example), "*"),
    **_rows(Rule("by example", probing.by_example), probing.NAMES),
    **_rows(Rule("recurrent", recurrent.recurrent_widths, recurrent.pack), "RNN LSTM GRU"),
}


def merged(rules: Mapping[Any, Rule] | None) -> Mapping[Any, Rule]:
    """The table, with installed packages' rules before it and a user's before those.

    Raises:
        SpecError: a value is not a `Rule`, or a package's rules are broken.
    """
    given = (plugins.installed(), plugins.checked(rules or {}, "rules"))
    return {**RULES, **{name: rule for part in given for key, rule in part.items() for name in names_of(key)}}


def names_of(key: Any) -> list[Any]:
    """What a graph may call the operator that somebody has a rule for: its function, its name, its name without the namespace."""
    if isinstance(key, str):
        return [key] if key in RULES or "::" in key else [key, f"::{key}"]
    if isinstance(key, CustomOpDef):
        return [key._qualname]
    if isinstance(key, torch.jit.ScriptFunction):
        return [OpaqueScriptFunction(key)]
    owner = getattr(key, "__self__", key)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return [OpaqueAutogradFunction(owner)]
    if isinstance(key, type) and issubclass(key, nn.Module):
        return [key.__name__]
    module = getattr(getattr(key, "__objclass__", key), "__module__", None) or "torch"
    known = isinstance(key, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)) or module.split(".")[0] in _TORCHS
    return [key, operator_of(key).name] if known else [key]


_TORCHS = ("torch", "torchvision", "_operator")
