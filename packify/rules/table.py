"""The table: every operator that packify knows, by its one name, with its rule. Users extend it with ``rules=``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packify.rules import contraction, creation, joining, movement, norm, pointwise, recurrent, reduce, spatial
from packify.rules.rule import Rule


def _rows(rule: Rule, names: str | list[str]) -> dict[Any, Rule]:
    return dict.fromkeys(names.split() if isinstance(names, str) else names, rule)


RULES: Mapping[Any, Rule] = {
    **_rows(Rule("pointwise", pointwise.elementwise), pointwise.NAMES),
    **_rows(Rule("pointwise", pointwise.elementwise), "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout"),
    **_rows(Rule("pointwise", pointwise.prelu), "prelu"),
    **_rows(Rule("reduction", reduce.reduction), reduce.REDUCTIONS),
    **_rows(Rule("along an axis", reduce.along), reduce.ALONG),
    **_rows(Rule("along an axis", reduce.ordered), reduce.ORDERED),
    **_rows(Rule("movement", movement.reshape, refit=movement.refit_sizes), "reshape reshape_as"),
    **_rows(Rule("movement", movement.reshape), "flatten ravel squeeze unsqueeze atleast_1d atleast_2d atleast_3d view_as_real"),
    **_rows(Rule("movement", movement.reshape, refit=movement.refit_unflatten), "unflatten"),
    **_rows(Rule("movement", movement.permute), "permute transpose t T mT H mH adjoint movedim"),
    **_rows(Rule("movement", movement.expand, refit=movement.refit_sizes), "expand expand_as broadcast_to"),
    **_rows(Rule("movement", movement.repeat), "repeat tile"),
    **_rows(Rule("movement", movement.repeat_interleave), "repeat_interleave"),
    **_rows(Rule("movement", movement.columns), "unfold"),
    **_rows(Rule("movement", movement.image_of), "fold"),
    **_rows(Rule("movement", movement.pixel_shuffle), "pixel_shuffle pixel_unshuffle"),
    **_rows(Rule("movement", movement.channel_shuffle), "channel_shuffle native_channel_shuffle"),
    **_rows(Rule("joining", joining.cat), "cat"),
    **_rows(Rule("joining", joining.stack), "stack"),
    **_rows(Rule("joining", joining.pieces, refit=joining.refit_split), "split"),
    **_rows(Rule("joining", joining.pieces), "chunk tensor_split hsplit vsplit dsplit"),
    **_rows(Rule("joining", joining.unbind), "unbind"),
    **_rows(Rule("indexing", joining.getitem, refit=joining.refit_getitem), "getitem"),
    **_rows(Rule("indexing", joining.select), "select"),
    **_rows(Rule("indexing", joining.narrow, refit=joining.refit_narrow), "narrow"),
    **_rows(Rule("indexing", joining.index_select), "index_select"),
    **_rows(Rule("indexing", joining.gather), "gather take_along_dim"),
    **_rows(Rule("indexing", joining.setitem), "setitem"),
    **_rows(Rule("joining", joining.pad, refit=joining.refit_pad), "pad"),
    **_rows(Rule("joining", joining.glu), "glu"),
    **_rows(Rule("contraction", contraction.linear), "linear"),
    **_rows(Rule("contraction", contraction.bilinear), "bilinear"),
    **_rows(Rule("contraction", contraction.embedding), "embedding"),
    **_rows(Rule("contraction", contraction.conv, refit=contraction.refit_conv), "conv1d conv2d conv3d"),
    **_rows(Rule("contraction", contraction.conv_transpose, refit=contraction.refit_conv_transpose), "conv_transpose1d conv_transpose2d conv_transpose3d"),
    **_rows(Rule("contraction", contraction.matmul), "matmul bmm mm mv dot"),
    **_rows(Rule("contraction", contraction.addmm), "addmm baddbmm addbmm addmv"),
    **_rows(Rule("contraction", contraction.einsum), "einsum"),
    **_rows(Rule("contraction", contraction.attention), "scaled_dot_product_attention"),
    **_rows(Rule("norm", norm.per_channel_module), "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d"),
    **_rows(Rule("norm", norm.per_channel), "batch_norm instance_norm"),
    **_rows(Rule("norm", norm.group_norm), "group_norm"),
    **_rows(Rule("norm", norm.layer_norm, refit=norm.refit_layer_norm), "layer_norm rms_norm"),
    **_rows(Rule("norm", norm.local_response_norm), "local_response_norm"),
    **_rows(Rule("spatial", spatial.pool), [*spatial.POOLS, "interpolate"]),
    **_rows(Rule("spatial", spatial.grid_sample), "grid_sample"),
    **_rows(Rule("creation", creation.sized, refit=movement.refit_factory), creation.SIZED),
    **_rows(Rule("creation", creation.sized, refit=movement.refit_sizes), creation.NEW),
    **_rows(Rule("creation", creation.sized, refit=creation.refit_arange), "arange"),
    **_rows(Rule("creation", creation.meshgrid), "meshgrid"),
    **_rows(Rule("creation", creation.one_hot), "one_hot"),
    **_rows(Rule("recurrent", recurrent.recurrent), "RNN LSTM GRU"),
}
