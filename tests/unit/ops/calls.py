"""Calls of single operators, by the file that has their rules: a function (or the name of a tensor's method) and its arguments."""

from __future__ import annotations

from typing import Any

import torch
import torchvision.ops  # noqa: F401 -- registers torch.ops.torchvision
from torch import Tensor
from torch.nn import functional as F

Calls = dict[str, tuple[Any, ...]]


def real(*shape: int) -> Tensor:
    """Numbers of both signs, a different one everywhere."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def places(*shape: int, below: int) -> Tensor:
    """Positions on an axis of that length."""
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(len(shape)))


def mask(*shape: int) -> Tensor:
    """Half of it is true."""
    return torch.arange(torch.Size(shape).numel()).view(shape) % 2 == 0


CONTRACTIONS: Calls = {
    "linear": (F.linear, real(4, 5, 6), real(7, 6), real(7)),
    "linear without bias": (F.linear, real(4, 6), real(7, 6)),
    "linear of a vector": (F.linear, real(6), real(7, 6), real(7)),
    "linear to a number": (F.linear, real(4, 6), real(6)),
    "bilinear": (F.bilinear, real(4, 3), real(4, 5), real(6, 3, 5), real(6)),
    "embedding": (F.embedding, places(4, 5, below=9), real(9, 6)),
    "embedding, padding": (F.embedding, places(4, below=9), real(9, 6), 2),
    "matmul": (torch.matmul, real(2, 3, 4), real(2, 4, 5)),
    "matmul, broadcast": (torch.matmul, real(2, 1, 3, 4), real(5, 4, 6)),
    "matmul of matrices": (torch.matmul, real(3, 4), real(4, 5)),
    "matrix by vector": (torch.matmul, real(2, 3, 4), real(4)),
    "vector by matrix": (torch.matmul, real(4), real(2, 4, 5)),
    "vector by vector": (torch.matmul, real(4), real(4)),
    "bmm": (torch.bmm, real(2, 3, 4), real(2, 4, 5)),
    "mm": (torch.mm, real(3, 4), real(4, 5)),
    "mv": (torch.mv, real(3, 4), real(4)),
    "dot": (torch.dot, real(4), real(4)),
    "addmm": (torch.addmm, real(3, 5), real(3, 4), real(4, 5)),
    "addmm of a vector": (torch.addmm, real(5), real(3, 4), real(4, 5)),
    "baddbmm": (torch.baddbmm, real(2, 3, 5), real(2, 3, 4), real(2, 4, 5)),
    "addmv": (torch.addmv, real(3), real(3, 4), real(4)),
    "attention": (F.scaled_dot_product_attention, real(2, 4, 3, 5), real(2, 4, 6, 5), real(2, 4, 6, 7)),
    "attention without heads": (F.scaled_dot_product_attention, real(2, 3, 5), real(2, 6, 5), real(2, 6, 7)),
    "attention, mask for all": (F.scaled_dot_product_attention, real(2, 4, 3, 5), real(2, 4, 3, 5), real(2, 4, 3, 5), real(3, 3)),
    "attention, mask per head": (F.scaled_dot_product_attention, real(2, 4, 3, 5), real(2, 4, 3, 5), real(2, 4, 3, 5), real(4, 3, 3)),
    "attention, mask per sample": (F.scaled_dot_product_attention, real(2, 4, 3, 5), real(2, 4, 3, 5), real(2, 4, 3, 5), real(2, 1, 3, 3)),
    "attention, mask of one batch": (
        F.scaled_dot_product_attention,
        real(2, 4, 3, 5),
        real(2, 4, 3, 5),
        real(2, 4, 3, 5),
        real(1, 4, 3, 3),
    ),
    "einsum": (torch.einsum, "bij,bjk->bik", real(2, 3, 4), real(2, 4, 5)),
    "einsum, ellipses": (torch.einsum, "...c,dc->...d", real(2, 3, 4), real(5, 4)),
    "einsum, implicit output": (torch.einsum, "bic,cd", real(2, 3, 4), real(4, 5)),
    "einsum of one": (torch.einsum, "bij->bji", real(2, 3, 4)),
    "einsum of three": (torch.einsum, "i,j,k->ijk", real(2), real(3), real(4)),
    "outer": (torch.outer, real(3), real(4)),
    "tensordot": (torch.tensordot, real(2, 3, 4), real(3, 4, 5)),
    "tensordot of axes": (torch.tensordot, real(2, 3, 4), real(4, 5, 3), ([1, 2], [2, 0])),
}
CONVOLUTIONS: Calls = {
    "conv1d": (F.conv1d, real(2, 4, 5), real(6, 4, 3), real(6)),
    "conv2d": (F.conv2d, real(2, 4, 5, 3), real(6, 4, 3, 2), None, 2, 1),
    "conv3d": (F.conv3d, real(2, 2, 3, 3, 3), real(4, 2, 2, 2, 2)),
    "conv without batch": (F.conv1d, real(4, 5), real(6, 4, 3), real(6)),
    "grouped": (F.conv1d, real(2, 6, 5), real(9, 2, 3), real(9), 1, 0, 1, 3),
    "depthwise": (F.conv1d, real(2, 6, 5), real(6, 1, 3), real(6), 1, 0, 1, 6),
    "depthwise, twice the channels": (F.conv1d, real(2, 3, 5), real(6, 1, 3), None, 1, 0, 1, 3),
    "one channel for each group of inputs": (F.conv1d, real(2, 8, 5), real(4, 2, 3), None, 1, 0, 1, 4),
    "transposed": (F.conv_transpose1d, real(2, 4, 5), real(4, 6, 3), real(6)),
    "transposed, grouped": (F.conv_transpose1d, real(2, 6, 5), real(6, 4, 3), real(12), 1, 0, 0, 3),
    "transposed, depthwise": (F.conv_transpose1d, real(2, 6, 5), real(6, 1, 3), None, 1, 0, 0, 6),
}
CREATION: Calls = {
    "zeros": (torch.zeros, (3, 4)),
    "arange": (torch.arange, 5),
    "eye": (torch.eye, 3, 4),
    "new_zeros": ("new_zeros", real(2), (3, 4)),
    "new_full": ("new_full", real(2), (3,), 0.5),
    "one_hot": (F.one_hot, places(3, 4, below=5), 5),
}
GATHERING: Calls = {
    "gather": (torch.gather, real(3, 4, 5), 1, places(3, 2, 5, below=4)),
    "gather, first axis": (torch.gather, real(3, 4), 0, places(2, 4, below=3)),
    "gather, last axis": (torch.gather, real(3, 4), -1, places(3, 6, below=4)),
    "gather from fewer": (torch.gather, real(3, 4), 1, places(2, 4, below=4)),
    "gather from one axis": (torch.gather, real(4), 0, places(3, below=4)),
    "take_along_dim": (torch.take_along_dim, real(3, 4), places(3, 2, below=4), 1),
    "take_along_dim, broadcast": (torch.take_along_dim, real(3, 4), places(1, 2, below=4), 1),
    "take_along_dim, flat": (torch.take_along_dim, real(3, 4), places(5, below=12)),
}
INDEXING: Calls = {
    "one position": ("__getitem__", real(3, 4, 5), (slice(None), 1)),
    "first axis": ("__getitem__", real(3, 4), 1),
    "a slice": ("__getitem__", real(3, 6), (slice(None), slice(1, 4))),
    "a slice of the first axis": ("__getitem__", real(6, 3), slice(2, None)),
    "every second": ("__getitem__", real(3, 6), (Ellipsis, slice(None, None, 2))),
    "a new axis": ("__getitem__", real(3, 4), (slice(None), None)),
    "a list": ("__getitem__", real(3, 4), (slice(None), [0, 2, 2])),
    "a tensor": ("__getitem__", real(3, 4, 5), (slice(None), places(2, 3, below=4))),
    "two tensors": ("__getitem__", real(3, 4, 5), (places(6, below=3), places(6, below=4))),
    "two tensors apart": ("__getitem__", real(3, 4, 5), (places(6, below=3), slice(None), places(6, below=5))),
    "tensor and number apart": ("__getitem__", real(3, 4, 5), (places(6, below=3), slice(None), 1)),
    "tensor and number": ("__getitem__", real(3, 4, 5), (slice(None), places(6, below=4), 1)),
    "select": (torch.select, real(3, 4, 5), 1, 2),
    "select, last": (torch.select, real(3, 4), -1, -1),
    "narrow": (torch.narrow, real(3, 6), 1, 2, 3),
    "index_select": (torch.index_select, real(3, 4), 1, places(5, below=4)),
}
MOVEMENT: Calls = {
    "permute": (torch.permute, real(2, 3, 4), (2, 0, 1)),
    "transpose": (torch.transpose, real(2, 3, 4), 0, -1),
    "movedim": (torch.movedim, real(2, 3, 4), 0, 2),
    "movedim of two": (torch.movedim, real(2, 3, 4), (0, 1), (1, 2)),
    "t": (torch.t, real(2, 3)),
    "t of a vector": (torch.t, real(3)),
    "expand": ("expand", real(3, 1, 4), (-1, 5, -1)),
    "expand, new axes": ("expand", real(3, 1), (2, 3, 4)),
    "expand_as": ("expand_as", real(3, 1), real(2, 3, 4)),
    "repeat": ("repeat", real(3, 4), (1, 2)),
    "repeat of new axes": ("repeat", real(3, 4), (2, 1, 3)),
    "tile": (torch.tile, real(3, 4), (2,)),
    "repeat_interleave": (torch.repeat_interleave, real(3, 4), 2, 1),
    "repeat_interleave, flat": (torch.repeat_interleave, real(3, 4), 2),
    "unfold": (F.unfold, real(2, 3, 4, 4), 2),
    "windows": ("unfold", real(2, 6, 3), 1, 3, 1),
    "windows of the first axis": ("unfold", real(6, 3), 0, 3, 2),
    "fold": (F.fold, real(2, 12, 9), (4, 4), (2, 2)),
    "pixel_shuffle": (F.pixel_shuffle, real(2, 12, 3, 3), 2),
    "pixel_unshuffle": (F.pixel_unshuffle, real(2, 3, 4, 4), 2),
    "pixel_shuffle without batch": (F.pixel_shuffle, real(12, 3, 3), 2),
    "channel_shuffle": (F.channel_shuffle, real(2, 6, 3), 3),
}
NORMS: Calls = {
    "batch_norm": (F.batch_norm, real(4, 3, 5), None, None, real(3), real(3), True),
    "instance_norm": (F.instance_norm, real(4, 3, 5), None, None, real(3), real(3)),
    "group_norm": (F.group_norm, real(4, 6, 5), 2, real(6), real(6)),
    "group_norm without weights": (F.group_norm, real(4, 6, 5), 3),
    "group_norm of one channel": (F.group_norm, real(4, 6, 5), 6, real(6), real(6)),
    "layer_norm": (F.layer_norm, real(2, 3, 4), (4,), real(4), real(4)),
    "layer_norm of two axes": (F.layer_norm, real(2, 3, 4), (3, 4), real(3, 4)),
    "layer_norm without weights": (F.layer_norm, real(2, 3, 4), (4,)),
    "rms_norm": (F.rms_norm, real(2, 3, 4), (4,), real(4)),
    "weight_norm": (torch._weight_norm, real(3, 4, 2), real(3, 1, 1), 0),
    "weight_norm, last axis": (torch._weight_norm, real(3, 4), real(1, 4), 1),
    "local_response_norm": (F.local_response_norm, real(2, 4, 3), 2),
}
POINTWISE: Calls = {
    "add": (torch.add, real(2, 3, 4), real(2, 3, 4)),
    "add, broadcast": (torch.add, real(2, 1, 4), real(3, 1)),
    "mul by a number": (torch.mul, real(2, 3), 3.0),
    "mul by one number per member": (torch.mul, real(2, 3), real()),
    "where": (torch.where, mask(3, 1), real(2, 1, 4), real(4)),
    "lerp": (torch.lerp, real(3, 4), real(3, 4), real(4)),
    "clamp": (torch.clamp, real(3, 4), real(4), None),
    "to": ("to", real(2, 3), torch.float32),
    "prelu": (torch.prelu, real(2, 3, 4), real(3)),
    "prelu of one number": (torch.prelu, real(2, 3, 4), real(1)),
    "prelu of a vector": (torch.prelu, real(3), real(1)),
    "softplus": (F.softplus, real(2, 3)),
    "frexp": (torch.frexp, real(2, 3)),
}
REDUCTIONS: Calls = {
    "sum": (torch.sum, real(2, 3, 4), 1),
    "sum of all": (torch.sum, real(2, 3)),
    "mean of two axes": (torch.mean, real(2, 3, 4), (0, -1), True),
    "no axes is all": (torch.amax, real(2, 3), ()),
    "max": (torch.max, real(2, 3, 4), -1),
    "max of all": (torch.max, real(2, 3)),
    "max of two": (torch.max, real(2, 3), real(3)),
    "argmax": (torch.argmax, real(2, 3), 0, True),
    "argmax of all": (torch.argmax, real(2, 3)),
    "norm": (torch.norm, real(2, 3), 2, 1),
    "vector_norm": (torch.linalg.vector_norm, real(2, 3), 2, 0),
    "var_mean": (torch.var_mean, real(2, 3, 4), 2),
    "aminmax": (torch.aminmax, real(2, 3)),
    "of a number": (torch.sum, real()),
    "softmax": (torch.softmax, real(2, 3, 4), 1),
    "cumsum": (torch.cumsum, real(2, 3), 0),
    "cummax": (torch.cummax, real(2, 3), 1),
    "flip": (torch.flip, real(2, 3, 4), (0, 2)),
    "roll": (torch.roll, real(2, 3), 1, 0),
    "roll, flat": (torch.roll, real(2, 3), 2),
    "normalize": (F.normalize, real(2, 3, 4)),
    "sort": (torch.sort, real(3, 4), 0),
    "topk": (torch.topk, real(2, 5), 3),
    "kthvalue": (torch.kthvalue, real(2, 5), 2, 0),
    "msort": (torch.msort, real(4, 3)),
    "msort of a vector": (torch.msort, real(4)),
    "tril": (torch.tril, real(2, 4, 4)),
    "triu": (torch.triu, real(3, 4), 1),
}
RESHAPING: Calls = {
    "merge": ("reshape", real(2, 3, 4), (2, 12)),
    "merge all": ("reshape", real(2, 3, 4), (-1,)),
    "split": ("reshape", real(2, 12), (2, 3, 4)),
    "merge and split": ("reshape", real(2, 6, 2), (4, 6)),
    "same": ("reshape", real(2, 3), (2, 3)),
    "ones": ("reshape", real(3, 1), (1, 3, 1)),
    "to a number": ("reshape", real(1, 1), ()),
    "from a number": ("reshape", real(), (1,)),
    "reshape_as": ("reshape_as", real(6), real(2, 3)),
    "flatten": (torch.flatten, real(2, 3, 4), 1),
    "flatten the first": (torch.flatten, real(2, 3, 4), 0, 1),
    "flatten a number": (torch.flatten, real()),
    "ravel": (torch.ravel, real(2, 3)),
    "squeeze": (torch.squeeze, real(2, 1, 3), 1),
    "squeeze nothing": (torch.squeeze, real(2, 3), 1),
    "squeeze all": (torch.squeeze, real(1, 2, 1, 3)),
    "squeeze several": (torch.squeeze, real(1, 2, 1), (0, 2)),
    "unsqueeze": (torch.unsqueeze, real(2, 3), 1),
    "unsqueeze, last": (torch.unsqueeze, real(2, 3), -1),
    "unsqueeze a number": (torch.unsqueeze, real(), 0),
    "unflatten": (torch.unflatten, real(2, 12), 1, (3, 4)),
    "unflatten the first": (torch.unflatten, real(12, 2), 0, (3, -1)),
    "unflatten from the back": (torch.unflatten, real(12, 2), -2, (4, 3)),
}
SCATTERING: Calls = {
    "index_add": (torch.index_add, real(3, 4), 1, places(2, below=4), real(3, 2)),
    "index_add, first axis": (torch.index_add, real(4, 3), 0, places(2, below=4), real(2, 3)),
    "index_add of a vector": (torch.index_add, real(4), 0, places(2, below=4), real(2)),
    "index_copy": (torch.index_copy, real(3, 4), -1, torch.tensor([2, 0]), real(3, 2)),
    "index_fill": (torch.index_fill, real(3, 4), 1, places(2, below=4), 0.5),
    "scatter": (torch.scatter, real(3, 4), 1, torch.tensor([[0, 1], [2, 3], [1, 0]]), real(3, 2)),
    "scatter of a number": (torch.scatter, real(3, 4), 1, torch.tensor([[0, 1], [2, 3], [1, 0]]), 0.5),
    "scatter_add": (torch.scatter_add, real(3, 4), 0, places(2, 4, below=3), real(2, 4)),
    "scatter_add of a part": (torch.scatter_add, real(3, 4), 0, places(2, 3, below=3), real(2, 4)),
    "scatter_reduce": (torch.scatter_reduce, real(3, 4), 1, places(3, 2, below=4), real(3, 2), "sum"),
}
SPATIAL: Calls = {
    "max_pool1d": (F.max_pool1d, real(2, 3, 6), 2),
    "max_pool2d": (F.max_pool2d, real(2, 3, 4, 4), 2),
    "max_pool2d without batch": (F.max_pool2d, real(3, 4, 4), 2),
    "avg_pool2d": (F.avg_pool2d, real(2, 3, 4, 4), 2),
    "adaptive_avg_pool2d": (F.adaptive_avg_pool2d, real(2, 3, 4, 4), 1),
    "interpolate": (F.interpolate, real(2, 3, 4), None, 2.0),
    "grid_sample": (F.grid_sample, real(2, 3, 4, 4), real(2, 5, 5, 2), "bilinear", "zeros", False),
    "roi_align": (
        torch.ops.torchvision.roi_align,
        real(2, 3, 6, 6),
        torch.tensor([[0, 0, 0, 4, 4], [1, 1, 1, 3, 5]]).double(),
        1.0,
        2,
        2,
        1,
        False,
    ),
}
SPECTRAL: Calls = {
    "fft": (torch.fft.fft, real(2, 3, 4)),
    "rfft": (torch.fft.rfft, real(2, 4), None, 0),
    "irfft": (torch.fft.irfft, torch.complex(real(2, 3), real(2, 3))),
    "fft2": (torch.fft.fft2, real(2, 3, 4)),
    "fftn": (torch.fft.fftn, real(2, 3)),
    "fftn of one axis": (torch.fft.fftn, real(2, 3, 4), None, (1,)),
    "fftn of given lengths": (torch.fft.fftn, real(2, 3, 4), (5,)),
    "fftshift": (torch.fft.fftshift, real(2, 3)),
    "view_as_complex": (torch.view_as_complex, real(3, 4, 2)),
    "view_as_complex of a pair": (torch.view_as_complex, real(2)),
    "view_as_real": (torch.view_as_real, torch.complex(real(3, 4), real(3, 4))),
}
PROBED: Calls = {
    "cdist": (torch.cdist, real(2, 3, 4), real(2, 5, 4)),
    "diagonal": (torch.diagonal, real(4, 4, 3)),
    "cross": (torch.cross, real(2, 3), real(2, 3), 1),
    "kron": (torch.kron, real(2, 3), real(4, 5)),
    "cosine_similarity": (F.cosine_similarity, real(2, 3), real(2, 3)),
    "inverse": (torch.inverse, real(2, 3, 3) + 3 * torch.eye(3)),
    "trace": (torch.trace, real(3, 3)),
    "diag_embed": (torch.diag_embed, real(2, 3)),
    "trapezoid": (torch.trapezoid, real(3, 4)),
    "multi_dot": (torch.linalg.multi_dot, [real(2, 3), real(3, 4), real(4, 5)]),
    "rot90": (torch.rot90, real(2, 3, 4), 1, (0, 1)),
}
