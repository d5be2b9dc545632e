"""Members that start from a trained reference: each takes its own subset of the reference's channels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from packify.core.errors import SpecError
from packify.nn.packed_network import PackedNetwork
from packify.nn.subgroups import Subgroups, by_group, by_part
from packify.nn.tree import resized
from packify.widths.fans import running_means, summed_axes
from packify.widths.selection import Selection, importance_of, select
from packify.widths.slimming import Member


def inherit_members(
    packed: PackedNetwork, model: nn.Module, member: Member, rules: Mapping[Any, Any], seed: int, *, same: bool = False
) -> dict[str, str]:
    """Fill the packed tensors from `model`'s, and tell for each parameter how.

    One choice of channels for each width serves everything that has that width: factor by factor where it is a product (whole heads), part
    by part where it is a sum. Channels are ranked by the L2 norm of what reads and writes them, with a shuffle of each member's own.
    Where a layer sums over fewer channels, its weight grows by one factor that keeps its norm, and so the size of what it computes, and
    the running mean of a norm behind it follows. Where nothing is left out, nothing changes: at alpha = M a member is the reference.

    Args:
        packed: what is filled.
        model: the trained reference.
        member: the slimmed member that `packed` is made of.
        rules: every operator's rule.
        seed: of the shuffles; member m's depends on the seed and m alone.
        same: all members take member 0's channels.

    Raises:
        SpecError: the reference has no data.
    """
    tensors = {
        name: tensor.detach()
        for name, tensor in (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    }
    if any(tensor.is_meta for tensor in tensors.values()):
        raise SpecError(
            'weights="inherit"',
            found=f"a {type(model).__name__} on the meta device",
            why="there are no weights to start from",
            fix="pass a trained network with data",
        )
    uncut = [axis for name, own in member.axes.items() if name in member.constants or not _follows(tensors.get(name)) for axis in own]
    learned = {name: tensors[name] for name, parameter in model.named_parameters() if _follows(parameter)}
    importance = importance_of(member.axes, learned)
    slicer = _Slicer(member, tensors, rules)
    told: dict[str, str] = {}
    members = packed.num_estimators
    own = (*packed.named_parameters(), *packed.named_buffers())
    with torch.no_grad():
        for number in range(members):
            generator = torch.Generator().manual_seed(_seed(seed, 0 if same else number))
            cut = slicer.member(select([axis for each in member.axes.values() for axis in each], importance, uncut, generator))
            for name, tensor in own:
                if name not in tensors:
                    continue
                share = tensor.chunk(members)[number] if tensor.dim() else tensor
                share.copy_(cut(name).to(tensor.dtype).view(share.shape))
        for name, _ in packed.named_parameters():
            told[name] = slicer.told(name)
    return told


def _follows(tensor: Tensor | None) -> bool:
    """A tensor of real numbers, of which each member has its own; whole numbers are positions, which all members share."""
    return tensor is not None and (tensor.is_floating_point() or tensor.is_complex())


def _seed(seed: int, member: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {member}".encode()).digest()[:7], "big")


class _Slicer:
    """Cuts the reference's tensors to members."""

    def __init__(self, member: Member, tensors: Mapping[str, Tensor], rules: Mapping[Any, Any]) -> None:
        self.axes, self.subgroups, self.tensors = member.axes, member.cut, tensors
        self.shapes = {name: tuple(tensor.shape) for name, tensor in _held(member.root).items()}
        self.summed = summed_axes(member.recorded.root, member.recorded.graphs, rules)
        self.means = running_means(member.recorded.graphs, rules)

    def member(self, selection: Selection) -> Any:
        """The function from a tensor's name to one member's share."""
        return lambda name: self._share(name, selection)

    def told(self, name: str) -> str:
        """How much of a tensor a member has, for the report."""
        before, after = tuple(self.tensors[name].shape), self.shapes[name]
        if before == after:
            return "inherited whole"
        kept = math.prod(after) / max(1, math.prod(before))
        return f"inherited, {kept:.0%} of the elements" + (", rescaled" if self._is_cut(name) else "")

    def _share(self, name: str, selection: Selection) -> Tensor:
        tensor, shape = self.tensors[name], self.shapes[name]
        if not tensor.dim() or name not in self.axes:
            return tensor
        if not _follows(tensor):
            return resized(tensor, shape)
        indices = [selection.indices(axis) for axis in self.axes[name]]
        if name in self.means and self._is_cut(self.means[name][0]):
            tensor = self._mean(name, selection)
        if not self._is_cut(name):
            return self._cut(name, tensor, indices)
        return self._cut(name, _spread(tensor, indices, self.summed[name]), indices) * self._gain(name, indices)

    def _is_cut(self, name: str) -> bool:
        """A layer sums over other elements than the reference's."""
        return any(self._fan(name)[0] != self._fan(name)[1] for _ in self.summed.get(name, ()))

    def _fan(self, name: str) -> tuple[int, int]:
        """Elements that a layer sums over, in the reference and in a member."""
        before, after = self.tensors[name].shape, self.shapes[name]
        own = self.subgroups.get(name)
        cut = own.gamma if own is not None and self.summed[name] == (0,) else 1  # a transposed conv has all of them on its first axis
        return math.prod(before[axis] for axis in self.summed[name]), math.prod(after[axis] for axis in self.summed[name]) // cut

    def _gain(self, name: str, indices: list[Tensor]) -> float:
        """What keeps the norm of a weight, and so the size of sums, when some of the summed elements are left out."""
        tensor = self.tensors[name]
        rows = [torch.arange(tensor.shape[axis]) if axis in self.summed[name] else own for axis, own in enumerate(indices)]
        whole = _norm(_taken(tensor, rows))
        left = _norm(self._cut(name, _spread(tensor, indices, self.summed[name]), indices))
        return whole / left if left > 0 and math.isfinite(whole / left) and self._fan(name)[1] < self._fan(name)[0] else 1.0

    def _mean(self, name: str, selection: Selection) -> Tensor:
        """A running mean of sums over a part: of what the weights bring, the kept share, times the weights' own gain."""
        weight, bias = self.means[name]
        indices = [selection.indices(axis) for axis in self.axes[weight]]
        before, after = self._fan(weight)
        factor = self._gain(weight, indices) * min(1.0, after / before)
        offset = self.tensors[bias] if bias is not None else torch.zeros_like(self.tensors[name])
        return (self.tensors[name] - offset) * factor + offset

    def _cut(self, name: str, tensor: Tensor, indices: list[Tensor]) -> Tensor:
        """The chosen elements; where gamma cuts a weight, each subgroup of rows takes its own subgroup of the second axis."""
        taken = _taken(tensor, indices)
        if name not in self.subgroups:
            return taken
        own = self.subgroups[name]
        return _diagonal(taken, own, transposed=self.summed.get(name) == (0,))


def _diagonal(weight: Tensor, own: Subgroups, transposed: bool) -> Tensor:
    """``"(group (part gamma o)) (gamma i) ..."`` as ``"(group (part gamma o)) i ..."``: what each subgroup of outputs reads.

    Args:
        weight: of a conv or linear; of a transposed conv ``"(group gamma i) (part gamma o) ..."``.
        own: how gamma cuts the layer.
        transposed: its outputs, which have parts, are on the second axis.
    """
    groups, gamma, parts = own.groups, own.gamma, own.parts
    weight = by_group(weight, 1, 1, gamma, parts) if transposed else by_group(weight, 0, groups, gamma, parts)
    blocks = weight.unflatten(0, (groups, gamma, -1)).unflatten(3, (gamma, -1))
    kept = torch.stack([blocks[:, index, :, index] for index in range(gamma)], 1).flatten(0, 2)
    return kept if transposed else by_part(kept, 0, groups, gamma, parts)


def _held(root: nn.Module) -> dict[str, Tensor]:
    return dict((*root.named_parameters(remove_duplicate=False), *root.named_buffers(remove_duplicate=False)))


def _taken(tensor: Tensor, indices: list[Tensor]) -> Tensor:
    for axis, own in enumerate(indices):
        if len(own) != tensor.shape[axis] or not torch.equal(own, torch.arange(len(own))):
            tensor = tensor.index_select(axis, own.to(tensor.device))
    return tensor


def _spread(tensor: Tensor, indices: list[Tensor], summed: tuple[int, ...]) -> Tensor:
    """A weight of which elements that a member has several times count once in a sum."""
    for axis in summed:
        times = indices[axis].bincount(minlength=tensor.shape[axis]).clamp_min(1)
        if int(times.max()) > 1:
            tensor = tensor / times.to(tensor.device).view(-1, *[1] * (tensor.dim() - axis - 1))
    return tensor


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.detach().abs().to(torch.float64)))
