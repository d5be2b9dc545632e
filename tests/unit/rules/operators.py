"""Ways to call operators on features ``h``, a second tensor ``y`` like them and parameters ``p`` (tests/models/around.py)."""

# ruff: noqa: B008, PLC3002 -- a table reads best with one operator a line, and every line is a call as users write it

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Table = dict[str, Callable[[Tensor, Tensor, Any], Any]]

_UNARY = """
abs neg exp expm1 exp2 log1p sigmoid tanh sin cos tan sinh cosh asinh atan erf sqrt rsqrt square reciprocal sign
floor ceil round trunc frac relu
nan_to_num sinc deg2rad rad2deg positive sgn lgamma digamma erfc
""".split()
_FUNCTIONAL = """
relu relu6 elu selu celu gelu silu mish hardtanh hardsigmoid hardswish leaky_relu hardshrink softshrink tanhshrink
softplus softsign logsigmoid
""".split()
_ALSO_INPLACE = {"relu", "relu6", "elu", "selu", "celu", "silu", "mish", "hardtanh", "hardsigmoid", "hardswish", "leaky_relu"}

# Any rank.
POINTWISE: Table = {
    **{
        f"torch.{name}": lambda h, y, p, f=getattr(torch, name): f(
            h.abs() + 0.1 if f in (torch.sqrt, torch.rsqrt, torch.log1p, torch.lgamma, torch.digamma) else h
        )
        for name in _UNARY
    },
    **{
        f"method {name}": lambda h, y, p, name=name: getattr(h.abs() + 0.1, name)()
        for name in (
            "sqrt",
            "log",
            "log2",
            "log10",
            "exp",
            "relu",
            "sigmoid",
            "clone",
            "contiguous",
            "detach",
            "float",
            "double",
            "bfloat16",
        )
    },
    **{f"F.{name}": lambda h, y, p, f=getattr(F, name): f(h) for name in _FUNCTIONAL},
    **{f"F.{name} in place": lambda h, y, p, f=getattr(F, name): f(h, inplace=True) for name in _FUNCTIONAL if name in _ALSO_INPLACE},
    **{
        f"{name}_": lambda h, y, p, name=name: getattr(h, name)()
        for name in ("relu_", "sigmoid_", "tanh_", "abs_", "neg_", "exp_", "sin_", "square_")
    },
    **{
        f"operator {f.__name__}": lambda h, y, p, f=f: f(h, y)
        for f in (
            operator.add,
            operator.sub,
            operator.mul,
            operator.truediv,
            operator.iadd,
            operator.isub,
            operator.imul,
            operator.gt,
            operator.le,
            operator.eq,
        )
    },
    "constant + h": lambda h, y, p: 1 + h,
    "constant - h": lambda h, y, p: 1 - h,
    "constant / h": lambda h, y, p: 2 / (h.abs() + 1),
    "2 ** h": lambda h, y, p: 2**h,
    "h ** 2": lambda h, y, p: h**2,
    "h.pow(3)": lambda h, y, p: h.pow(3),
    "h.add(y, alpha=2)": lambda h, y, p: h.add(y, alpha=2),
    "torch.sub alpha": lambda h, y, p: torch.sub(h, y, alpha=0.5),
    "torch.rsub": lambda h, y, p: torch.rsub(h, y),
    "add_": lambda h, y, p: h.add_(y),
    "mul_ number": lambda h, y, p: h.mul_(0.5),
    "div rounding": lambda h, y, p: torch.div(h, 0.1, rounding_mode="floor") + h,
    "h % 1": lambda h, y, p: h % 1.0,
    "h // 0.1": lambda h, y, p: h.detach() // 0.1 + h,
    "torch.fmod": lambda h, y, p: torch.fmod(h, 0.3),
    "scalar parameter": lambda h, y, p: h * p.scalar,
    "parameter of one": lambda h, y, p: h * p.one + p.scalar,
    "atan2": lambda h, y, p: torch.atan2(h, y),
    "hypot": lambda h, y, p: torch.hypot(h, y),
    "maximum": lambda h, y, p: torch.maximum(h, y),
    "minimum": lambda h, y, p: h.minimum(y),
    "fmax": lambda h, y, p: torch.fmax(h, y),
    "torch.max of two": lambda h, y, p: torch.max(h, y),
    "torch.min of two": lambda h, y, p: torch.min(h, y),
    "clamp": lambda h, y, p: h.clamp(-0.5, 0.5),
    "clamp_": lambda h, y, p: h.clamp_(min=-0.5),
    "clamp_min": lambda h, y, p: h.clamp_min(0),
    "clamp by tensors": lambda h, y, p: torch.clamp(h, min=y),
    "where": lambda h, y, p: torch.where(h > 0, h, y),
    "where number": lambda h, y, p: torch.where(h > 0, h, 0.0),
    "where method": lambda h, y, p: h.where(y > 0, torch.zeros_like(h)),
    "masked_fill": lambda h, y, p: h.masked_fill(y > 0, 0.25),
    "masked_fill_": lambda h, y, p: h.masked_fill_(y > 0, 0.25),
    "lerp": lambda h, y, p: torch.lerp(h, y, 0.3),
    "lerp by scalar parameter": lambda h, y, p: torch.lerp(h, y, p.scalar),
    "addcmul": lambda h, y, p: torch.addcmul(h, y, y, value=0.1),
    "addcdiv": lambda h, y, p: torch.addcdiv(h, y, y.abs() + 1, value=0.1),
    "logical": lambda h, y, p: ((h > 0) & (y > 0)) | ~(h < y),
    "logical functions": lambda h, y, p: torch.logical_or(torch.logical_not(h > 0), y > 0) ^ (h > y),
    "xor": lambda h, y, p: torch.logical_xor(h > 0, y > 0),
    "isfinite": lambda h, y, p: torch.isfinite(h) * h,
    "heaviside": lambda h, y, p: torch.heaviside(h.detach(), y.detach()) + h,
    "copysign": lambda h, y, p: torch.copysign(h, y),
    "xlogy": lambda h, y, p: torch.xlogy(h, y.abs() + 1),
    "to dtype": lambda h, y, p: h.to(torch.float64),
    "to other": lambda h, y, p: h.to(y),
    "type_as": lambda h, y, p: h.type_as(y),
    "to another shape": lambda h, y, p: h * torch.arange(2).sum().to(y),
    "type_as another shape": lambda h, y, p: h + torch.tensor([0.25]).type_as(y),
    "to a vector": lambda h, y, p: h.to(p.channels) * 2,
    "threshold": lambda h, y, p: F.threshold(h, 0.1, 0.0),
    "softplus beta": lambda h, y, p: F.softplus(h, beta=2, threshold=5),
    "gelu tanh": lambda h, y, p: F.gelu(h, approximate="tanh"),
    "dropout off": lambda h, y, p: F.dropout(h, 0.5, training=False),
    "zeros_like": lambda h, y, p: torch.zeros_like(h) + h,
    "ones_like": lambda h, y, p: torch.ones_like(h) * h,
    "full_like": lambda h, y, p: torch.full_like(h, 2.0) * h,
    "h.data": lambda h, y, p: h.data + y,
    "torch.prelu": lambda h, y, p: torch.prelu(h, p.one),
    "copy_": lambda h, y, p: torch.empty_like(h).copy_(h) + y,
    "zero_": lambda h, y, p: y.clone().zero_() + h,
    "fill_": lambda h, y, p: torch.empty_like(y).fill_(0.3) * h,
    "new_tensor": lambda h, y, p: h * h.new_tensor(2.0),
    "torch.tensor": lambda h, y, p: h * torch.tensor(0.5),
    "complex": lambda h, y, p: torch.complex(h, y).abs(),
    "view_as_real": lambda h, y, p: torch.polar(h.abs(), y).real,
}

# Features b n c.
TOKENS: Table = {
    "vector parameter": lambda h, y, p: h * p.channels + p.other,
    "positions": lambda h, y, p: h + p.positions,
    "class token": lambda h, y, p: torch.cat((p.token.expand(h.shape[0], -1, -1), h), dim=1),
    "class token, repeat": lambda h, y, p: torch.cat([p.token.repeat(h.size(0), 1, 1), h], 1)[:, 0],
    "expand_as": lambda h, y, p: h + p.token.expand_as(h),
    "broadcast_to": lambda h, y, p: h * torch.broadcast_to(p.token, h.shape),
    # reductions
    **{
        f"{name}(1)": lambda h, y, p, name=name: getattr(h, name)(1)
        for name in ("sum", "mean", "amax", "amin", "prod", "logsumexp", "nansum", "std", "var")
    },
    **{
        f"{name}(-1, keepdim)": lambda h, y, p, name=name: h * getattr(h, name)(-1, keepdim=True)
        for name in ("sum", "mean", "amax", "std", "var", "logsumexp")
    },
    "mean of two axes": lambda h, y, p: h - h.mean(dim=(1, 2), keepdim=True),
    "torch.mean dim": lambda h, y, p: torch.mean(h, dim=1, keepdim=True) * y,
    "max with indices": lambda h, y, p: h.max(dim=1)[0],
    "max values": lambda h, y, p: torch.max(h, 1).values,
    "max keepdim": lambda h, y, p: torch.max(h, -1, keepdim=True).values * y,
    "min": lambda h, y, p: h.min(1).values,
    "median": lambda h, y, p: h.median(1).values,
    "argmax": lambda h, y, p: h.argmax(-1, keepdim=True) * y,
    "norm": lambda h, y, p: h / h.norm(dim=-1, keepdim=True),
    "norm p": lambda h, y, p: h / torch.norm(h, 1, 1, True),
    "linalg norm": lambda h, y, p: h / torch.linalg.vector_norm(h, dim=-1, keepdim=True),
    "var_mean": lambda h, y, p: (h - torch.var_mean(h, -1, keepdim=True)[1]) / torch.var_mean(h, -1, keepdim=True)[0],
    "std_mean": lambda h, y, p: torch.std_mean(h, 1)[0],
    "any": lambda h, y, p: (h > 1).any(dim=-1, keepdim=True) * y,
    "all": lambda h, y, p: (h > -1).all(1, keepdim=True) * y,
    "count_nonzero": lambda h, y, p: (h > 0).count_nonzero(dim=1),
    "aminmax": lambda h, y, p: torch.aminmax(h, dim=1, keepdim=True).max * y,
    "sum of a tensor per member": lambda h, y, p: h / h.abs().sum(),
    "max of everything": lambda h, y, p: h / h.abs().max(),
    "mean of everything": lambda h, y, p: h - torch.mean(h),
    # along an axis
    "softmax": lambda h, y, p: h.softmax(dim=-1),
    "softmax 1": lambda h, y, p: F.softmax(h, 1),
    "torch.softmax dtype": lambda h, y, p: torch.softmax(h, dim=-1, dtype=torch.float64).to(h.dtype),
    "log_softmax": lambda h, y, p: F.log_softmax(h, dim=-1),
    "softmin": lambda h, y, p: F.softmin(h, dim=1),
    "normalize": lambda h, y, p: F.normalize(h, dim=-1),
    "normalize by default": lambda h, y, p: F.normalize(h),
    "cumsum": lambda h, y, p: h.cumsum(1),
    "cumsum channels": lambda h, y, p: torch.cumsum(h, dim=-1),
    "cumprod": lambda h, y, p: h.cumprod(1),
    "cummax": lambda h, y, p: h.cummax(1).values,
    "logcumsumexp": lambda h, y, p: torch.logcumsumexp(h, 1),
    "flip": lambda h, y, p: h.flip(1) + torch.flip(h, dims=(1, 2)),
    "flip list": lambda h, y, p: h.flip([-1]),
    "roll": lambda h, y, p: torch.roll(h, 1, 1) + h.roll(shifts=(1, 2), dims=(1, 2)),
    "tril": lambda h, y, p: torch.tril(h @ h.transpose(1, 2)) @ y,
    "triu": lambda h, y, p: (h @ h.transpose(1, 2)).triu(diagonal=1) @ y,
    "sort": lambda h, y, p: h.sort(1).values,
    "sort descending": lambda h, y, p: torch.sort(h, dim=-1, descending=True)[0],
    "argsort": lambda h, y, p: h.argsort(1) * y,
    "topk": lambda h, y, p: h.topk(2, dim=1).values,
    "topk channels": lambda h, y, p: torch.topk(h, 3, -1)[0],
    "kthvalue": lambda h, y, p: torch.kthvalue(h, 2, dim=1).values,
    "mode": lambda h, y, p: torch.mode(h.round(), 1).values,
    # movement
    "view heads": lambda h, y, p: h.view(h.shape[0], -1, 2, 4).permute(0, 2, 1, 3).mean(1),
    "view constants": lambda h, y, p: h.view(-1, 6, 2, 4).transpose(1, 2).reshape(-1, 2, 24),
    "reshape merges tokens": lambda h, y, p: h.reshape(h.size(0), -1),
    "reshape batch into tokens": lambda h, y, p: (h.reshape(-1, 8) * 2).view(-1, 6, 8),
    "reshape_as": lambda h, y, p: h.flatten(1).reshape_as(y),
    "view_as": lambda h, y, p: h.flatten(1).view_as(y) + y,
    "flatten": lambda h, y, p: h.flatten(1),
    "flatten 0 1": lambda h, y, p: h.flatten(0, 1).unflatten(0, (-1, 6)),
    "torch.flatten keywords": lambda h, y, p: torch.flatten(h, start_dim=1, end_dim=2),
    "unflatten": lambda h, y, p: h.unflatten(-1, (2, 4)).sum(2),
    "unflatten keyword": lambda h, y, p: torch.unflatten(h, dim=2, sizes=(4, -1)).amax(3),
    "squeeze": lambda h, y, p: h.mean(1, keepdim=True).squeeze(1),
    "squeeze all": lambda h, y, p: h.mean(1, keepdim=True).squeeze(),
    "unsqueeze": lambda h, y, p: (h.unsqueeze(1) * y.unsqueeze(2)).sum(2),
    "unsqueeze -1": lambda h, y, p: (h.unsqueeze(-1) * y.unsqueeze(-2)).mean(-1),
    "None index": lambda h, y, p: (h[:, None] * y[:, :, None]).sum(1),
    "permute": lambda h, y, p: h.permute(0, 2, 1).mean(-1),
    "permute keyword": lambda h, y, p: torch.permute(h, dims=(1, 0, 2)).permute(1, 0, 2),
    "permute tuple": lambda h, y, p: h.permute((1, 2, 0)).softmax(1).permute(2, 0, 1),
    "transpose": lambda h, y, p: h.transpose(1, 2).softmax(-1).transpose(-1, -2),
    "transpose batch": lambda h, y, p: h.transpose(0, 1).cumsum(0).transpose(0, 1),
    "swapaxes": lambda h, y, p: torch.swapaxes(h, 1, 2).swapdims(2, 1),
    "mT": lambda h, y, p: (h.mT @ y).mean(1),
    "movedim": lambda h, y, p: h.movedim(1, 0).movedim(0, 1),
    "moveaxis": lambda h, y, p: torch.moveaxis(h, -1, 1).mean(2),
    "adjoint": lambda h, y, p: h.adjoint().mean(2),
    "expand": lambda h, y, p: h.mean(1, keepdim=True).expand(-1, 6, -1) * y,
    "expand with sizes": lambda h, y, p: h[:, :1].expand(h.shape[0], 6, 8) + y,
    "expand new axis": lambda h, y, p: h.expand(2, *h.shape).sum(0),
    "repeat": lambda h, y, p: h.repeat(1, 2, 1),
    "repeat new axis": lambda h, y, p: h.repeat(2, 1, 1, 1).mean(0),
    "repeat channels": lambda h, y, p: h.repeat(1, 1, 2),
    "tile": lambda h, y, p: torch.tile(h, (1, 1, 2)),
    "repeat_interleave": lambda h, y, p: h.repeat_interleave(2, dim=1),
    "repeat_interleave channels": lambda h, y, p: torch.repeat_interleave(h, 2, dim=-1),
    "Tensor.unfold": lambda h, y, p: h.unfold(1, 3, 1).mean(-1),
    # joining
    "cat": lambda h, y, p: torch.cat([h, y], -1),
    "cat tokens": lambda h, y, p: torch.cat((h, y), dim=1),
    "cat axis": lambda h, y, p: torch.cat([h, y, h], axis=2),
    "concat": lambda h, y, p: torch.concat([h, y], 1),
    "cat batch": lambda h, y, p: torch.cat([h, y]).chunk(2)[1],
    "cat with constant": lambda h, y, p: torch.cat([h, torch.zeros(h.shape[0], 1, 8)], 1),
    "stack": lambda h, y, p: torch.stack([h, y], 1).sum(1),
    "stack last": lambda h, y, p: torch.stack((h, y), -1).flatten(2),
    "stack first": lambda h, y, p: torch.stack((h, y)).mean(0),
    "hstack": lambda h, y, p: torch.hstack([h, y]),
    "chunk": lambda h, y, p: (lambda a, b: a * b.sigmoid())(*h.chunk(2, dim=-1)),
    "chunk tokens": lambda h, y, p: h.chunk(3, 1)[1],
    "split": lambda h, y, p: torch.cat(h.split(4, dim=-1)[::-1], -1),
    "split sizes": lambda h, y, p: torch.cat(torch.split(h, [2, 6], dim=2)[::-1], 2),
    "split tokens": lambda h, y, p: torch.split(h, [1, 5], 1)[1] + y.split((1, 5), 1)[0],
    "split keyword": lambda h, y, p: h.split(split_size=2, dim=2)[0],
    "tensor_split": lambda h, y, p: torch.tensor_split(h, 2, dim=-1)[1],
    "unbind tokens": lambda h, y, p: h.unbind(1)[2],
    "qkv unbind": lambda h, y, p: (lambda q, k: q * k)(*h.view(h.shape[0], 6, 2, 4).unbind(2)),
    "unbind keyword": lambda h, y, p: torch.unbind(h, dim=1)[0],
    "glu": lambda h, y, p: F.glu(h),
    "glu 1": lambda h, y, p: F.glu(h, dim=1),
    "pad tokens": lambda h, y, p: F.pad(h, (0, 0, 1, 2)),
    "pad channels": lambda h, y, p: F.pad(h, (2, 2)),
    "pad value": lambda h, y, p: F.pad(h, [0, 0, 0, 1], mode="constant", value=1.0),
    # indexing
    "token": lambda h, y, p: h[:, 0],
    "last token": lambda h, y, p: h[:, -1, :],
    "slice tokens": lambda h, y, p: h[:, 1:4],
    "slice channels": lambda h, y, p: h[..., :4] * y[..., 4:],
    "slice middle": lambda h, y, p: h[:, :, 2:6],
    "step": lambda h, y, p: h[:, ::2],
    "step channels": lambda h, y, p: h[..., 0::2] + y[..., 1::2],
    "batch slice": lambda h, y, p: h[:2],
    "list index": lambda h, y, p: h[:, [0, 2]],
    "buffer index": lambda h, y, p: h[:, p.index],
    "constant index": lambda h, y, p: h[:, torch.tensor([1, 1, 0])],
    "two indices": lambda h, y, p: h[:, torch.tensor([0, 1]), torch.tensor([2, 3])],
    "packed mask": lambda h, y, p: (h * (y > 0))[:, p.index],
    "select": lambda h, y, p: h.select(1, 2) + torch.select(y, dim=1, index=0),
    "narrow": lambda h, y, p: h.narrow(1, 1, 3),
    "narrow channels": lambda h, y, p: torch.narrow(h, 2, 0, 4),
    "index_select": lambda h, y, p: h.index_select(1, p.index),
    "index_select keyword": lambda h, y, p: torch.index_select(h, dim=1, index=torch.tensor([0, 3])),
    "gather": lambda h, y, p: h.gather(1, y.argsort(1)),
    "gather last": lambda h, y, p: torch.gather(h, -1, y.argsort(-1)),
    "take_along_dim": lambda h, y, p: torch.take_along_dim(h, y.argmax(1, keepdim=True), dim=1),
    "packed index": lambda h, y, p: h[torch.arange(h.shape[0]), y.sum(-1).argmax(-1)],
    "table of parameters": lambda h, y, p: h + p.table[:6],
    "table by index": lambda h, y, p: h[:, :3] + p.table[p.index],
    "setitem token": lambda h, y, p: assign(h, (slice(None), 0), 0.0),
    "setitem slice": lambda h, y, p: assign(h, (slice(None), slice(1, 3)), y[:, :2]),
    "setitem channels": lambda h, y, p: assign(h, (Ellipsis, slice(0, 4)), y[..., 4:]),
    "masked assign": lambda h, y, p: assign(h, h < 0, 0.0),
    "diagonal": lambda h, y, p: torch.diagonal(h @ y.mT, dim1=1, dim2=2),
    "index_add": lambda h, y, p: h.index_add(1, torch.tensor([0, 2]), y[:, :2]),
    "scatter": lambda h, y, p: torch.zeros_like(h).scatter(1, y.argsort(1), h),
    # contraction
    "F.linear": lambda h, y, p: F.linear(h, p.square, p.channels),
    "h @ parameter": lambda h, y, p: h @ p.square,
    "parameter.T": lambda h, y, p: h @ p.square.T + p.channels,
    "parameter @ h": lambda h, y, p: (p.square @ h.transpose(1, 2)).transpose(1, 2),
    "matmul": lambda h, y, p: torch.matmul(h, y.transpose(-2, -1)) @ h,
    "bmm": lambda h, y, p: torch.bmm(torch.bmm(h, y.transpose(1, 2)), h),
    "baddbmm": lambda h, y, p: torch.baddbmm(h, h @ y.mT, y, beta=0.5, alpha=0.1),
    "matmul vector": lambda h, y, p: (h @ p.channels).unsqueeze(-1) * y,
    "mv": lambda h, y, p: h * torch.mv(p.square, p.channels),
    "mm": lambda h, y, p: torch.mm(h[:, 0], p.square),
    "addmm": lambda h, y, p: torch.addmm(p.channels, h[:, 0], p.square),
    "addmm numbers": lambda h, y, p: torch.addmm(y[:, 0], h[:, 0], p.square, beta=2, alpha=0.5),
    "dot": lambda h, y, p: h * torch.dot(p.channels, p.other),
    "outer": lambda h, y, p: h @ torch.outer(p.channels, p.other),
    "einsum": lambda h, y, p: torch.einsum("bnc,bmc->bnm", h, y),
    "einsum parameter": lambda h, y, p: torch.einsum("bnc,cd->bnd", h, p.square),
    "einsum ellipsis": lambda h, y, p: torch.einsum("...c,dc->...d", h, p.square),
    "einsum list": lambda h, y, p: torch.einsum("bnc,c->bnc", [h, p.channels]),
    "einsum implicit": lambda h, y, p: torch.einsum("bnc,cd", h, p.square),
    "einsum trace": lambda h, y, p: torch.einsum("bnc,bnc->bc", h, y),
    "attention": lambda h, y, p: F.scaled_dot_product_attention(h, y, h),
    "attention heads": lambda h, y, p: F.scaled_dot_product_attention(heads(h), heads(y), heads(h)).transpose(1, 2).flatten(2),
    "attention causal": lambda h, y, p: F.scaled_dot_product_attention(h, y, h, is_causal=True),
    "attention mask": lambda h, y, p: F.scaled_dot_product_attention(h, y, h, attn_mask=torch.ones(6, 6).tril().bool()),
    "attention packed mask": lambda h, y, p: F.scaled_dot_product_attention(h, y, h, attn_mask=(h @ y.mT), scale=0.1),
    "F.embedding": lambda h, y, p: h + F.embedding(torch.arange(6), p.table),
    "F.embedding of members' own indices": lambda h, y, p: h + F.embedding(h.argmax(-1).clamp(max=6), p.table),
    "one_hot": lambda h, y, p: h + F.one_hot(torch.arange(6), 6).to(h.dtype).sum(1)[:, None],
    "bilinear": lambda h, y, p: F.bilinear(h, y, p.square.unsqueeze(0).expand(8, 8, 8)),
    "cdist": lambda h, y, p: torch.cdist(h, y),
    "cosine_similarity": lambda h, y, p: F.cosine_similarity(h, y, dim=-1),
    "cosine_similarity tokens": lambda h, y, p: F.cosine_similarity(h, y, dim=1),
    # norms
    "layer_norm": lambda h, y, p: F.layer_norm(h, (8,), p.channels, p.other),
    "layer_norm last shape": lambda h, y, p: F.layer_norm(h, h.shape[-1:]),
    "layer_norm two axes": lambda h, y, p: F.layer_norm(h, h.shape[1:]),
    "rms_norm": lambda h, y, p: F.rms_norm(h, (8,), p.channels),
    "rms by hand": lambda h, y, p: h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6) * p.channels,
    "group_norm": lambda h, y, p: F.group_norm(h.transpose(1, 2), 2, p.channels, p.other),
    "batch_norm": lambda h, y, p: F.batch_norm(h.transpose(1, 2), None, None, p.channels, p.other, training=True),
    "instance_norm": lambda h, y, p: F.instance_norm(h.transpose(1, 2)),
    "conv1d": lambda h, y, p: F.conv1d(h.transpose(1, 2), p.line, p.channels, padding=1),
    "conv_transpose1d": lambda h, y, p: F.conv_transpose1d(h.transpose(1, 2), p.line, stride=2),
    "avg_pool1d": lambda h, y, p: F.avg_pool1d(h.transpose(1, 2), 2),
    "max_pool1d over channels": lambda h, y, p: F.max_pool1d(h, 2),
    "adaptive pool": lambda h, y, p: F.adaptive_avg_pool1d(h.transpose(1, 2), 1).squeeze(-1),
    "interpolate": lambda h, y, p: F.interpolate(h.transpose(1, 2), scale_factor=2, mode="linear"),
    # creation
    "arange": lambda h, y, p: h * torch.arange(h.shape[1])[:, None],
    "zeros": lambda h, y, p: h + torch.zeros(h.shape[0], 1, 8),
    "ones of shape": lambda h, y, p: h * torch.ones(h.shape),
    "new_zeros": lambda h, y, p: h + h.new_zeros(h.shape[1], h.shape[2]),
    "new_full": lambda h, y, p: h + h.new_full((1, 8), 0.5),
    "linspace": lambda h, y, p: h * torch.linspace(0, 1, 6)[:, None],
    "eye": lambda h, y, p: (h @ y.mT + torch.eye(6)) @ h,
    "full": lambda h, y, p: h + torch.full((h.size(1), 1), 0.3),
    "meshgrid": lambda h, y, p: h * torch.meshgrid(torch.arange(6.0), torch.arange(2.0), indexing="ij")[0][:, :1],
    "sizes as values": lambda h, y, p: h / h.shape[-1] ** 0.5 + h.size(0) * 0,
    "numel": lambda h, y, p: h * (h.numel() / (h.shape[0] * h.shape[1] * h.shape[2])),
    "iterate": lambda h, y, p: torch.stack(list(h.unbind(1)), 1),
}


def assign(tensor: Tensor, index: Any, value: Any) -> Tensor:
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


def heads(tensor: Tensor) -> Tensor:
    return tensor.view(tensor.shape[0], -1, 2, 4).transpose(1, 2)
