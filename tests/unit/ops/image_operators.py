"""Ways to call operators on features ``h``, a second tensor ``y`` like them and parameters ``p`` (tests/models/around.py). Here: images and vectors."""

# ruff: noqa: E501 -- a table reads best with one operator a line, and every line is a call as users write it

from __future__ import annotations

import operator

import torch
from torch.nn import functional as F

from tests.unit.ops.operators import Table, assign

# Features b c h w.
IMAGES: Table = {
    "map parameter": lambda h, y, p: h * p.map,
    "vector parameter": lambda h, y, p: h * p.channels.view(1, -1, 1, 1) + p.other[None, :, None, None],
    "vector view constant": lambda h, y, p: h * p.channels.view(1, 8, 1, 1),
    "prelu": lambda h, y, p: F.prelu(h, p.channels),
    "conv2d": lambda h, y, p: F.conv2d(h, p.kernel, p.channels, padding=1),
    "conv2d keywords": lambda h, y, p: F.conv2d(h, weight=p.kernel, bias=None, stride=2, padding=(1, 1), dilation=1, groups=1),
    "conv2d same": lambda h, y, p: torch.conv2d(h, p.kernel, padding="same"),
    "depthwise": lambda h, y, p: F.conv2d(h, p.kernel[:, :1], groups=8),
    "dynamic depthwise": lambda h, y, p: F.conv2d(h, p.kernel[:, :1], None, 1, 1, 1, h.shape[1]),
    "conv_transpose2d": lambda h, y, p: F.conv_transpose2d(h, p.kernel, p.other, stride=2, padding=1, output_padding=1),
    "conv weight of mean": lambda h, y, p: F.conv2d(h, p.kernel.mean((2, 3), keepdim=True)),
    "cat": lambda h, y, p: torch.cat([h, y], 1),
    "cat three": lambda h, y, p: F.conv2d(torch.cat([h, y, h * 2], dim=1)[:, 8:16], p.kernel),
    "cat height": lambda h, y, p: torch.cat([h, y], 2),
    "chunk": lambda h, y, p: torch.cat([h.chunk(2, 1)[1], y.chunk(2, 1)[0]], 1),
    "split": lambda h, y, p: torch.cat(h.split([2, 6], 1)[::-1], dim=1),
    "slice channels": lambda h, y, p: h[:, :4] + y[:, 4:],
    "slice window": lambda h, y, p: h[:, :, 1:-1, ::2],
    "stack": lambda h, y, p: torch.stack([h, y], 1).flatten(1, 2),
    "selective kernels": lambda h, y, p: (torch.stack([h, y], 1) * torch.stack([h, y], 1).mean((3, 4), keepdim=True).softmax(1)).sum(1),
    "shuffle by view": lambda h, y, p: (
        h.view(h.size(0), 2, 4, h.size(2), h.size(3)).transpose(1, 2).reshape(h.size(0), 8, h.size(2), h.size(3))
    ),
    "channel_shuffle": lambda h, y, p: F.channel_shuffle(h, 2),
    "pixel_shuffle": lambda h, y, p: F.pixel_shuffle(h, 2),
    "pixel_unshuffle": lambda h, y, p: F.pixel_unshuffle(h, 2),
    "unfold": lambda h, y, p: F.unfold(h, 3, padding=1).transpose(1, 2),
    "unfold view": lambda h, y, p: (F.unfold(h, 3, padding=1).view(h.shape[0], 8, 9, -1) * y.flatten(2).unsqueeze(2)).sum(2),
    "fold": lambda h, y, p: F.fold(F.unfold(h, 2, stride=2), (6, 6), 2, stride=2),
    "flatten": lambda h, y, p: h.flatten(1),
    "tokens": lambda h, y, p: h.flatten(2).transpose(1, 2),
    "tokens and back": lambda h, y, p: h.flatten(2).transpose(1, 2).softmax(-1).transpose(1, 2).reshape(h.shape),
    "channels last": lambda h, y, p: F.layer_norm(h.permute(0, 2, 3, 1), (8,), p.channels, p.other).permute(0, 3, 1, 2),
    "gram": lambda h, y, p: torch.bmm(h.flatten(2), y.flatten(2).transpose(1, 2)),
    "squeeze and excite": lambda h, y, p: h * torch.sigmoid(y.mean((2, 3), keepdim=True)),
    "channel attention": lambda h, y, p: (
        h * F.conv1d(y.mean((2, 3)).unsqueeze(1), p.line[:1, :1], padding=1).sigmoid().squeeze(1)[:, :, None, None]
    ),
    "spatial attention": lambda h, y, p: h * torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1).mean(1, keepdim=True),
    "l2 over channels": lambda h, y, p: h / h.norm(dim=1, keepdim=True),
    "pad": lambda h, y, p: F.pad(h, (1, 1, 2, 0)),
    "pad reflect": lambda h, y, p: F.pad(h, (1, 1, 1, 1), mode="reflect"),
    "pad replicate": lambda h, y, p: F.pad(h, (1, 0, 1, 0), "replicate"),
    "pad channels": lambda h, y, p: F.pad(h, (0, 0, 0, 0, 2, 2)),
    "max_pool2d": lambda h, y, p: F.max_pool2d(h, 3, 2, 1),
    "max_pool2d method": lambda h, y, p: torch.max_pool2d(h, kernel_size=2, stride=2, ceil_mode=True),
    "max_pool2d with indices": lambda h, y, p: F.max_unpool2d(*F.max_pool2d(h, 2, return_indices=True), 2),
    "avg_pool2d": lambda h, y, p: F.avg_pool2d(h, 2, count_include_pad=False),
    "adaptive_avg_pool2d": lambda h, y, p: F.adaptive_avg_pool2d(h, (2, None)),
    "adaptive_max_pool2d": lambda h, y, p: F.adaptive_max_pool2d(h, 1).flatten(1),
    "lp_pool2d": lambda h, y, p: F.lp_pool2d(h.abs(), 2, 2),
    "interpolate": lambda h, y, p: F.interpolate(h, scale_factor=2),
    "interpolate size": lambda h, y, p: F.interpolate(h, size=y.shape[2:], mode="bicubic", align_corners=False) + y,
    "upsample": lambda h, y, p: F.interpolate(h, (9, 9), mode="bilinear", align_corners=True),
    "grid_sample": lambda h, y, p: F.grid_sample(h, y[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False),
    "affine_grid": lambda h, y, p: F.grid_sample(
        h, F.affine_grid(y.mean((2, 3))[:, :6].view(-1, 2, 3), h.shape, align_corners=False), align_corners=False
    ),
    "shared grid": lambda h, y, p: F.grid_sample(
        h,
        torch.stack(torch.meshgrid(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 4), indexing="xy"), -1)
        .expand(h.shape[0], -1, -1, -1)
        .to(h.dtype),
        align_corners=False,
    ),
    "batch_norm": lambda h, y, p: F.batch_norm(h, None, None, p.channels, p.other, True),
    "group_norm": lambda h, y, p: F.group_norm(h, 4, p.channels, p.other),
    "group_norm of one": lambda h, y, p: F.group_norm(h, 1),
    "instance_norm": lambda h, y, p: F.instance_norm(h, weight=p.channels, bias=p.other),
    "local_response_norm": lambda h, y, p: F.local_response_norm(h, 3),
    "layer_norm of an image": lambda h, y, p: F.layer_norm(h, h.shape[1:]),
    "global response": lambda h, y, p: (
        p.map * (h * (h.norm(p=2, dim=(2, 3), keepdim=True) / (h.norm(p=2, dim=(2, 3), keepdim=True).mean(1, keepdim=True) + 1e-6))) + h
    ),
    "softmax over pixels": lambda h, y, p: h.flatten(2).softmax(-1).view_as(h) * y,
    "windows": lambda h, y, p: (
        h.view(-1, 8, 3, 2, 3, 2)
        .permute(0, 2, 4, 3, 5, 1)
        .reshape(-1, 4, 8)
        .view(-1, 3, 3, 2, 2, 8)
        .permute(0, 5, 1, 3, 2, 4)
        .reshape(-1, 8, 6, 6)
    ),
    "roll": lambda h, y, p: torch.roll(h, (1, -1), (2, 3)),
    "height as tokens": lambda h, y, p: h.permute(0, 2, 3, 1).flatten(0, 1).softmax(1).view(-1, 6, 6, 8).permute(0, 3, 1, 2),
    "5-D": lambda h, y, p: F.interpolate(h.unsqueeze(2), scale_factor=(2, 1, 1)),
    "max out": lambda h, y, p: torch.maximum(*h.chunk(2, 1)),
    "mean of groups": lambda h, y, p: h.unflatten(1, (2, 4)).mean(1),
    "channels to batch": lambda h, y, p: F.avg_pool2d(h.flatten(0, 1).unsqueeze(1), 2).view(-1, 8, 3, 3),
    "roll channels": lambda h, y, p: h.roll(1, 1),
    "top tokens": lambda h, y, p: h.flatten(2).topk(4, dim=2).values,
    "setitem": lambda h, y, p: assign(h, (slice(None), slice(0, 4)), y[:, :4]),
    "fft": lambda h, y, p: torch.fft.rfft2(h).abs(),
    "fft filter": lambda h, y, p: torch.fft.irfft2(torch.fft.rfft2(h, norm="ortho") * 2, s=h.shape[-2:], norm="ortho"),
}

# Features b c.
VECTORS: Table = {
    "cat": lambda h, y, p: torch.cat([h, y], 1),
    "outer": lambda h, y, p: torch.einsum("bi,bj->bij", h, y).flatten(1),
    "stack": lambda h, y, p: torch.stack([h, y]).sum(0),
    "softmax": lambda h, y, p: h.softmax(-1) * y,
    "as an image": lambda h, y, p: h.view(-1, 2, 2, 2),
    "as an image by size": lambda h, y, p: h[:, :, None, None].expand(-1, -1, 3, 3),
    "chunk": lambda h, y, p: h.chunk(2, 1)[0] * y.chunk(2, dim=-1)[1],
    "sum to a column": lambda h, y, p: (h * y).sum(1, keepdim=True),
    "F.linear": lambda h, y, p: F.linear(h, p.square),
    "addmm": lambda h, y, p: torch.addmm(p.channels, h, p.square.t()),
    "matmul both": lambda h, y, p: (h @ p.square) @ p.square.T,
    "batch_norm": lambda h, y, p: F.batch_norm(h, None, None, training=True),
    "batch similarity": lambda h, y, p: (h @ y.T).softmax(-1) @ y,
    "t()": lambda h, y, p: h.t().softmax(0).t(),
    "iadd": lambda h, y, p: operator.iadd(h, y),
    "bilinear": lambda h, y, p: torch.einsum("bi,ij,bj->b", h, p.square, y).unsqueeze(-1),
    "repeat": lambda h, y, p: h.repeat(1, 3),
    "normalize": lambda h, y, p: F.normalize(h, p=2, dim=1),
    "topk": lambda h, y, p: h.topk(3).values,
    "group_norm": lambda h, y, p: F.group_norm(h, 2, p.channels, p.other),
    "layer_norm": lambda h, y, p: F.layer_norm(h, [8], weight=p.channels, bias=p.other),
    "glu": lambda h, y, p: F.glu(h, 1),
}
