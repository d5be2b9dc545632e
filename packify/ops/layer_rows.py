"""Rows of layers and products, norms, operators over resolution and along axes, and those whose widths are found by example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from packify.ops import contraction, convolution, movement, mult_adds, norm, probing, recurrent, reduce, spatial, spectral
from packify.ops.rule import Rule

_CONV = "input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1"
_CONV_TRANSPOSE = "input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1"
_ATTENTION = "query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False"
_EMBEDDING = "input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False"
_DEFORM = (
    "input, weight, offset, mask, bias, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups, offset_groups, use_mask=True"
)
_INTERPOLATE = "input, size=None, scale_factor=None, mode='nearest', align_corners=None, recompute_scale_factor=None, antialias=False"
_NORM_MODULES = "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d"
_AXIS = "input, dim=None, keepdim=False"
_REDUCTIONS = {
    "sum mean amax amin var std var_mean std_mean logsumexp nansum nanmean": (_AXIS, ""),
    "prod all any argmax argmin median count_nonzero aminmax": (_AXIS, "flattens"),
    "max min": ("input, dim=None, keepdim=False, other=None", "flattens"),
    "norm": ("input, p='fro', dim=None, keepdim=False, dtype=None", "flattens"),
    "vector_norm linalg_vector_norm": ("input, ord=2, dim=None, keepdim=False, *, dtype=None", ""),
}
_ALONG = {
    "softmax softmin": ("input, dim=None, *, dtype=None", "not_logits"),
    "log_softmax": ("input, dim=None, *, dtype=None", ""),
    "normalize": ("input, p=2.0, dim=1, eps=1e-12", "not_logits"),
    "cumsum": ("input, dim=None, *, dtype=None", "flattens"),
    "cumprod": ("input, dim=None, *, dtype=None", ""),
    "logcumsumexp cummax cummin": ("input, dim", ""),
    "flip": ("input, dim", ""),
    "roll": ("input, shifts, dim=None", "flattens"),
}
_ORDERED = {
    "sort": "input, dim=-1, descending=False, stable=None",
    "argsort": "input, dim=-1, descending=False, stable=False",
    "topk": "input, k, dim=-1, largest=True, sorted=True",
    "kthvalue": "input, k, dim=-1, keepdim=False",
    "mode": "input, dim=-1, keepdim=False",
}
_PRODUCTS: dict[str, Any] = {
    "matmul bmm mm": ("product", mult_adds.product("input")),
    "mv dot": ("", mult_adds.product("input")),
}


def _layers() -> Iterator[tuple[str, Rule]]:
    yield (
        "linear",
        Rule(
            "contraction",
            contraction.linear,
            contraction.pack_linear,
            signature="input, weight, bias=None, groups=1, parts=()",
            mult_adds=mult_adds.linear,
            traits="layer",
        ),
    )
    for name in ("by_group", "by_part"):
        yield name, Rule("contraction", None, convolution.pack_reordered, signature="input, axis, groups, gamma, parts")
    for rank in spatial.RANKS:
        yield (
            f"conv{rank}d",
            Rule("contraction", convolution.conv, convolution.pack_conv, convolution.refit_conv, _CONV, mult_adds.conv, "layer"),
        )
        yield (
            f"conv_transpose{rank}d",
            Rule(
                "contraction",
                convolution.conv_transpose,
                convolution.pack_conv,
                convolution.refit_conv,
                _CONV_TRANSPOSE,
                mult_adds.conv_transpose,
                "layer",
            ),
        )
    yield (
        "bilinear",
        Rule(
            "contraction",
            contraction.bilinear,
            contraction.pack_bilinear,
            signature="input1, input2, weight, bias=None",
            mult_adds=mult_adds.bilinear,
            traits="weighted",
        ),
    )
    yield "embedding", Rule("contraction", contraction.embedding, contraction.pack_embedding, None, _EMBEDDING, None, "product")


def _products() -> Iterator[tuple[str, Rule]]:
    for names, (traits, count) in _PRODUCTS.items():
        for name in names.split():
            yield name, Rule("contraction", contraction.matmul, contraction.pack_matmul, None, "input, other", count, traits)
    addmm = "input, mat1, mat2, *, beta=1, alpha=1"
    for name, traits in (("addmm", "product"), ("baddbmm", "product"), ("addmv", "")):
        yield name, Rule("contraction", contraction.addmm, contraction.pack_addmm, None, addmm, mult_adds.product("mat1"), traits)
    yield "addbmm", Rule("by example", probing.by_example, None, None, addmm, mult_adds.addbmm)
    equation = "equation, *operands"
    yield "einsum", Rule("contraction", contraction.einsum, contraction.pack_einsum, None, equation, mult_adds.einsum, "product")
    attention = (contraction.attention, contraction.pack_attention, None, _ATTENTION, mult_adds.attention)
    yield "scaled_dot_product_attention", Rule("contraction", *attention)
    for name in ("outer", "ger"):
        yield name, Rule("contraction", contraction.outer, contraction.pack_outer, None, "input, vec2")
    tensordot = "a, b, dims=2, out=None"
    yield (
        "tensordot",
        Rule("contraction", contraction.tensordot, contraction.pack_tensordot, None, tensordot, mult_adds.tensordot, "product"),
    )


def _norms() -> Iterator[tuple[str, Rule]]:
    for name in _NORM_MODULES.split():
        traits = "not_logits" if name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d") else ""
        yield name, Rule("norm", norm.per_channel_module, norm.pack_channels, None, "input", mult_adds.nothing, traits)
    for name in ("GroupNorm", "LayerNorm"):
        yield name, Rule("norm", signature="input", mult_adds=mult_adds.nothing)
    batch = "input, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, eps=1e-05"
    yield "batch_norm", Rule("norm", norm.per_channel, norm.pack_channels, None, batch, None, "not_logits")
    yield "instance_norm", Rule("norm", norm.per_channel, norm.pack_channels, None, batch.replace("training=False", "use_input_stats=True"))
    group = "input, num_groups, weight=None, bias=None, eps=1e-05"
    yield "group_norm", Rule("norm", norm.group_norm, norm.pack_group_norm, norm.refit_group_norm, group, None, "not_logits")
    layer = (norm.layer_norm, norm.pack_layer_norm, norm.refit_layer_norm)
    yield "layer_norm", Rule("norm", *layer, "input, normalized_shape, weight=None, bias=None, eps=1e-05", None, "not_logits")
    yield "rms_norm", Rule("norm", *layer, "input, normalized_shape, weight=None, eps=None", None, "not_logits")
    for name in ("weight_norm", "_weight_norm"):
        yield name, Rule("norm", norm.weight_norm, norm.pack_weight_norm, signature="v, g, dim=0")
    local = "input, size, alpha=0.0001, beta=0.75, k=1.0"
    yield "local_response_norm", Rule("norm", norm.local_response_norm, movement.pack_batchwise, signature=local)


def _images() -> Iterator[tuple[str, Rule]]:
    for kind, signature in spatial.POOLS.items():
        for name in spatial.pool_names(kind):
            yield name, Rule("spatial", spatial.pool, spatial.pack_image, signature=signature)
    yield "interpolate", Rule("spatial", spatial.pool, spatial.pack_image, signature=_INTERPOLATE, traits="hands_on")
    grid = "input, grid, mode='bilinear', padding_mode='zeros', align_corners=None"
    yield "grid_sample", Rule("spatial", spatial.grid_sample, spatial.pack_grid_sample, signature=grid)
    yield "deform_conv2d", Rule("spatial", spatial.deform_conv, signature=_DEFORM, mult_adds=mult_adds.conv)
    for name in ("roi_align", "roi_pool"):
        regions = "input, rois, spatial_scale, pooled_height, pooled_width"
        yield name, Rule("spatial", spatial.regions, spatial.pack_regions, signature=regions)


def _axes() -> Iterator[tuple[str, Rule]]:
    for family, widths, rows in (("reduction", reduce.reduction, _REDUCTIONS), ("along an axis", reduce.along, _ALONG)):
        for names, (signature, traits) in rows.items():
            for name in names.split():
                yield name, Rule(family, widths, reduce.pack, None, signature, None, traits)
    for name, signature in _ORDERED.items():
        yield name, Rule("along an axis", reduce.ordered, reduce.pack, signature=signature)
    yield "msort", Rule("along an axis", reduce.ordered, reduce.pack_first_axis, signature="input")
    for name in ("triu", "tril"):
        yield name, Rule("along an axis", reduce.along, reduce.pack_corner, signature="input, diagonal=0")
    transforms = {
        "input, n=None, dim=-1, norm=None": spectral.ONE_AXIS,
        "input, s=None, dim=(-2, -1), norm=None": spectral.TWO_AXES,
        "input, s=None, dim=None, norm=None": spectral.ANY_AXES,
        "input, dim=None": spectral.SHIFTS,
    }
    for signature, group in transforms.items():
        for name in group:
            yield name, Rule("spectral", spectral.transform, spectral.pack_transform, signature=signature)
    yield "view_as_complex", Rule("spectral", spectral.as_complex, spectral.pack_pairs, signature="input")
    yield "view_as_real", Rule("spectral", spectral.as_real, spectral.pack_pairs, signature="input")


def _others() -> Iterator[tuple[str, Rule]]:
    for name in ("RNN", "LSTM", "GRU"):
        rules = (recurrent.recurrent_widths, recurrent.pack, None, "input, hx=None", mult_adds.recurrent)
        yield name, Rule("recurrent", *rules)
    for name in ("RNNBase", "RNNCellBase"):
        yield name, Rule("recurrent", signature="input, hx=None", mult_adds=mult_adds.recurrent)
    for name in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"):
        cell = "input, hx, w_ih, w_hh, b_ih=None, b_hh=None"
        yield name, Rule("by example", probing.by_example, signature=cell, mult_adds=mult_adds.cell)
    for name in ("Embedding", "EmbeddingBag"):
        yield name, Rule("contraction", mult_adds=mult_adds.nothing)
    yield "multi_head_attention_forward", Rule("by example", probing.by_example, mult_adds=mult_adds.multi_head_attention)
    for name in ("multi_dot", "linalg_multi_dot"):
        yield name, Rule("by example", probing.by_example, signature="tensors", mult_adds=mult_adds.chain)
    yield "chain_matmul", Rule("by example", probing.by_example, signature="*tensors", mult_adds=mult_adds.chain)
    for name in ("linalg_matmul", "vdot", "inner"):
        yield name, Rule("by example", probing.by_example, signature="input, other", mult_adds=mult_adds.product("input"))
    for name in ("*", "tensor", *probing.NAMES):
        yield name, Rule("by example", probing.by_example, traits="created" if name == "tensor" else "")
    for name in ("broadcast_tensors", "block_diag", "cartesian_prod"):
        yield name, Rule("by example", probing.by_example, signature="*tensors")


LAYERS = (*_layers(), *_products(), *_norms(), *_images(), *_axes(), *_others())
