"""Packed forms of layers whose torch class knows one network only.

Convs, batch, group and instance norms need none: they get more groups.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from packify.core.report import LayerWidth
from packify.nn.functional import affine, layer_norm_in_place, packed_embedding, packed_linear, rms_norm_in_place
from packify.nn.members import merge_members, repeat_members, split_members
from packify.nn.tree import state_sizes


class PackedLinear(nn.Linear):
    """M linear layers, weight ``"(m o) i"`` and bias ``"(m o)"``; `groups` subgroups in each part.

    Input and output are ``"(m b) ... c"``; where `layout` is another axis, the input's members are there, and where it is None, all
    members read one input ``"b ... i"`` and the output is ``"b ... (m o)"``.
    """

    members: int
    groups: int = 1
    parts: tuple[int, ...] = ()
    layout: int | None = 0

    def forward(self, input: Tensor) -> Tensor:
        if self.layout is None and self.groups == 1:
            return F.linear(input, self.weight, self.bias)
        rows = _front(input, self.layout, self.members)
        return merge_members(packed_linear(rows, self.weight, self.bias, self.members, self.groups, self.parts), 0)

    def extra_repr(self) -> str:
        inner = (f", groups={self.groups}" if self.groups > 1 else "") + (f", parts={self.parts}" if self.parts else "")
        sizes = f"{self.in_features * self.groups}, {self.out_features // self.members}"
        return f"{sizes}, members={self.members}{inner}, bias={self.bias is not None}"


class PackedLayerNorm(nn.LayerNorm):
    """M layer norms, weight and bias ``"(m c)"``: `layout` is the axis of the input's members; the output is ``"(m b) ... c"``.

    Where `stays`, input and output are ``"... (m c)"``.
    """

    members: int
    layout: int | None = 0
    stays: bool = False

    def forward(self, input: Tensor) -> Tensor:
        shape = (self.normalized_shape[0] // self.members, *self.normalized_shape[1:])
        if self.stays:
            return layer_norm_in_place(input, shape, self.weight, self.bias, self.eps, self.members)
        weight, bias = _unfolded(self.weight, self.members), _unfolded(self.bias, self.members)
        normal = F.layer_norm(_front(input, self.layout, self.members), shape, eps=self.eps)
        return merge_members(affine(normal, weight, bias), 0)


class PackedRMSNorm(nn.RMSNorm):
    """M RMS norms, weight ``"(m c)"``: `layout` is the axis of the input's members; the output is ``"(m b) ... c"``.

    Where `stays`, input and output are ``"... (m c)"``.
    """

    members: int
    layout: int | None = 0
    stays: bool = False

    def forward(self, input: Tensor) -> Tensor:
        shape = [self.normalized_shape[0] // self.members, *self.normalized_shape[1:]]
        if self.stays:
            return rms_norm_in_place(input, shape, self.weight, self.eps, self.members)
        normal = F.rms_norm(_front(input, self.layout, self.members), shape, eps=self.eps)
        return merge_members(affine(normal, _unfolded(self.weight, self.members), None), 0)


class PackedEmbedding(nn.Embedding):
    """M embedding tables ``"(m v) d"``: `layout` is the axis of the indices' members, None where all read the same."""

    members: int
    layout: int | None = 0

    def forward(self, input: Tensor) -> Tensor:
        packed = self.layout is not None
        indices = _front(input, self.layout, self.members) if packed else input
        return merge_members(packed_embedding(indices, self.weight, self.members, packed, self.padding_idx), 0)


class PackedPReLU(nn.PReLU):
    """M PReLUs: input ``"b (m c) ..."``, weight ``"(m k)"`` with one or ``c`` slopes per member."""

    members: int

    def forward(self, input: Tensor) -> Tensor:
        slopes: Tensor = self.weight
        if self.num_parameters == self.members:
            slopes = torch.repeat_interleave(slopes, input.shape[1] // self.members)
        return F.prelu(input, slopes)


PACKED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: PackedLinear,
    nn.LayerNorm: PackedLayerNorm,
    nn.RMSNorm: PackedRMSNorm,
    nn.Embedding: PackedEmbedding,
    nn.PReLU: PackedPReLU,
}


def _front(input: Tensor, layout: int | None, members: int) -> Tensor:
    """``"m ..."`` of an input that carries its members on the axis `layout`, or that they share."""
    if layout is None:
        return split_members(repeat_members(input, 0, members), 0, members)
    return split_members(input, layout, members)


def _unfolded(parameter: Tensor | None, members: int) -> Tensor | None:
    return None if parameter is None else split_members(parameter, 0, members)


def pack_layer(module: nn.Module, members: int, layer: LayerWidth | None = None, *, shared_input: bool = False) -> None:
    """Make one layer of a packed tree tell the truth: its class, its sizes, its groups.

    Args:
        module: the layer, with packed tensors and a member's settings.
        members: M.
        layer: a conv's or linear layer's widths and groups in one member.
        shared_input: a conv that reads the shared input as one ordinary conv.
    """
    if isinstance(module, nn.RNNBase):
        return  # runs once per member, with a member's own sizes
    if type(module) in PACKED:
        module.__class__ = PACKED[type(module)]
        module.members = members  # type: ignore[assignment]
        if isinstance(module, PackedLinear) and layer is not None:
            module.groups, module.parts = layer.gamma, layer.parts
    if isinstance(module, nn.GroupNorm):
        module.num_groups *= members
    if not isinstance(module, nn.modules.conv._ConvNd):
        state_sizes(module)
        return
    groups = module.groups if layer is None else layer.groups * layer.gamma
    state_sizes(module, groups * (1 if shared_input else members))
