"""Rows of operators that move, merge, join, cut, read and write parts of tensors, or make them from sizes."""

from __future__ import annotations

from collections.abc import Iterator

from packify.ops import creation, gathering, indexing, joining, movement, reshaping, scattering
from packify.ops.rule import Rule

_PERMUTATIONS = {
    "permute": ("input, dims", "hands_on"),
    "transpose": ("input, dim0, dim1", "hands_on"),
    "movedim": ("input, source, destination", ""),
    "t T mT H mH adjoint": ("input", ""),
}
_AXES = {
    "flatten": ("input, start_dim=0, end_dim=-1", "hands_on"),
    "ravel": ("input", ""),
    "squeeze": ("input, dim=None", "hands_on"),
    "unsqueeze": ("input, dim", "hands_on"),
}


def _movement() -> Iterator[tuple[str, Rule]]:
    reshape = (reshaping.reshape, reshaping.pack_reshape)
    yield "reshape", Rule("movement", *reshape, reshaping.refit_sizes, "input, shape=()", None, "hands_on")
    yield "reshape_as", Rule("movement", *reshape, signature="input, other")
    for name, (signature, traits) in _AXES.items():
        yield name, Rule("movement", reshaping.reshape, reshaping.pack_axes, None, signature, None, traits)
    yield "unflatten", Rule("movement", reshaping.reshape, reshaping.pack_axes, reshaping.refit_unflatten, "input, dim, sizes")
    for names, (signature, traits) in _PERMUTATIONS.items():
        for name in names.split():
            yield name, Rule("movement", movement.permute, movement.pack_permute, None, signature, None, traits)
    for name in ("expand", "broadcast_to"):
        yield name, Rule("movement", movement.expand, movement.pack_expand, reshaping.refit_sizes, "input, shape")
    yield "expand_as", Rule("movement", movement.expand, movement.pack_expand, signature="input, other")
    for name in ("repeat", "tile"):
        yield name, Rule("movement", movement.repeat, movement.pack_repeat, movement.refit_repeat, "input, repeats")
    interleave = "input=None, repeats=None, dim=None, *, output_size=None"
    yield "repeat_interleave", Rule("movement", movement.repeat_interleave, movement.pack_repeat_interleave, signature=interleave)
    windows = "input, dimension=None, size=None, step=None"
    yield "unfold", Rule("movement", movement.columns, movement.pack_windows, signature=windows)
    fold = "input, output_size, kernel_size, dilation=1, padding=0, stride=1"
    yield "fold", Rule("movement", movement.image_of, movement.pack_windows, signature=fold)
    for name, factor in (("pixel_shuffle", "upscale_factor"), ("pixel_unshuffle", "downscale_factor")):
        yield name, Rule("movement", movement.pixel_shuffle, movement.pack_shuffle, signature=f"input, {factor}")
    for name in ("channel_shuffle", "native_channel_shuffle"):
        yield name, Rule("movement", movement.channel_shuffle, movement.pack_batchwise, signature="input, groups")


def _joining() -> Iterator[tuple[str, Rule]]:
    yield "cat", Rule("joining", joining.cat, joining.pack_cat, signature="tensors, dim=0")
    yield "stack", Rule("joining", joining.stack, joining.pack_stack, signature="tensors, dim=0")
    for name in ("hstack", "vstack", "dstack", "row_stack", "column_stack"):
        yield name, Rule("joining", joining.cat_by_name, joining.pack_cat_by_name, signature="tensors")
    cut = (joining.pieces, joining.pack_pieces)
    yield "split", Rule("joining", *cut, joining.refit_split, "input, pieces, dim=0")
    for name in ("chunk", "tensor_split"):
        yield name, Rule("joining", *cut, signature="input, pieces, dim=0")
    yield "unbind", Rule("joining", joining.unbind, joining.pack_unbind, signature="input, dim=0")
    yield "pad", Rule("joining", joining.pad, joining.pack_pad, joining.refit_pad, "input, pad, mode='constant', value=None")
    yield "glu", Rule("joining", joining.glu, joining.pack_glu, None, "input, dim=-1", None, "not_logits")


def _indexing() -> Iterator[tuple[str, Rule]]:
    getitem = (indexing.getitem, indexing.pack_getitem, indexing.refit_getitem)
    yield "getitem", Rule("indexing", *getitem, "input, index", None, "hands_on")
    yield "setitem", Rule("indexing", indexing.setitem, indexing.pack_setitem, indexing.refit_getitem, "input, index, value, reuse=False")
    yield "store", Rule("indexing", indexing.store, indexing.pack_store, signature="target, value")
    yield "select", Rule("indexing", indexing.select, indexing.pack_along_dim, signature="input, dim, index")
    narrow = (indexing.narrow, indexing.pack_along_dim, indexing.refit_narrow)
    yield "narrow", Rule("indexing", *narrow, "input, dim, start, length")
    yield "index_select", Rule("indexing", indexing.index_select, indexing.pack_along_dim, signature="input, dim, index")
    yield "gather", Rule("indexing", gathering.gather, gathering.pack_gather, signature="input, dim, index, *, sparse_grad=False")
    along = (gathering.take_along_dim, gathering.pack_take_along_dim)
    yield "take_along_dim", Rule("indexing", *along, signature="input, indices, dim=None")
    by_position = {
        "index_add": "source, *, alpha=1",
        "index_copy": "source",
        "index_fill": "value",
        "index_reduce": "source, reduce, *, include_self=True",
    }
    for name, rest in by_position.items():
        yield name, Rule("indexing", scattering.index_add, scattering.pack, signature=f"input, dim, index, {rest}")
    by_element = {
        "scatter": "src=None, value=None, reduce=None",
        "scatter_add": "src",
        "scatter_reduce": "src, reduce, *, include_self=True",
    }
    for name, rest in by_element.items():
        yield name, Rule("indexing", scattering.scatter, scattering.pack, signature=f"input, dim, index, {rest}")


def _creation() -> Iterator[tuple[str, Rule]]:
    created = (creation.sized, creation.pack_created)
    for name in ("zeros", "ones", "empty", "full", "rand", "randn"):
        signature = "shape, fill_value" if name == "full" else "shape"
        yield name, Rule("creation", *created, reshaping.refit_sizes, signature, None, "created")
    for name, rest in {"new_zeros": "", "new_ones": "", "new_empty": "", "new_full": ", fill_value"}.items():
        yield name, Rule("creation", *created, reshaping.refit_sizes, f"input, shape{rest}")
    yield "new", Rule("creation", *created, reshaping.refit_sizes, "input, *shape")
    yield "new_tensor", Rule("creation", *created, signature="input, data")
    yield "arange", Rule("creation", *created, creation.refit_arange, "start=0, end=None, step=1", None, "created")
    for name, rest in (("linspace", ""), ("logspace", ", base=10.0")):
        yield name, Rule("creation", *created, creation.refit_linspace, f"start, end, steps{rest}", None, "created")
    yield "eye", Rule("creation", *created, creation.refit_square, "n, m=None", None, "created")
    yield "randperm", Rule("creation", *created, creation.refit_square, "n", None, "created")
    yield "randint", Rule("creation", *created, signature="low=0, high=None, shape=()", traits="created")
    yield "meshgrid", Rule("creation", creation.meshgrid, creation.pack_meshgrid, signature="*tensors, indexing=None")
    yield "one_hot", Rule("creation", creation.one_hot, creation.pack_new_axis, signature="input, num_classes=-1")


SHAPES = (*_movement(), *_joining(), *_indexing(), *_creation())
