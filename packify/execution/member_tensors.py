"""The members' shares of packed tensors, as the lists of arguments that a lifted graph takes.

Without gradients the views are made once and kept for as long as the network holds the same tensors. With gradients every parameter is
split once in a forward pass, so that the backward pass writes its gradient once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode

from packify.execution.lifting import Slot


class NotPlain(Exception):
    """A tensor is no plain one that can be split here, such as a shard of one."""


class MemberTensors:
    """Every member's tensors, for one lifted graph.

    Args:
        slots: what the graph takes.
        body: the packed network's module tree.
        members: M.
    """

    def __init__(self, slots: tuple[Slot, ...], body: nn.Module, members: int) -> None:
        self.slots, self.members = slots, members
        self._places = [(body.get_submodule(slot.path), slot.name) for slot in slots]
        self._numbers = [index for index, slot in enumerate(slots) if slot.kind in ("count", "number")]
        self._views: list[list[Any]] | None = None
        self._key: list[tuple[Tensor, int]] = []

    def held(self) -> list[Tensor]:
        """The packed tensors as they are now."""
        found = []
        for module, name in self._places:
            tensor: Tensor | None = module._parameters.get(name)
            if tensor is None:
                tensor = module._buffers.get(name)
            found.append(getattr(module, name) if tensor is None else tensor)
        return found

    def release(self) -> None:
        """Let go of the views that are kept."""
        self._views, self._key = None, []

    def places(self) -> tuple[int, ...]:
        """Where the packed tensors lie in memory."""
        return tuple(tensor.data_ptr() for tensor in self.held())

    def views(self) -> list[list[Any]]:
        """By member, the tensors in order.

        Raises:
            NotPlain: they cannot be split here.
        """
        held = self.held()
        if is_watched():
            return self._with_numbers(held, self._split(held))
        plain = self._with_numbers(held, self._kept(held))
        if not torch.is_grad_enabled():
            return plain
        found = [list(own) for own in plain]
        for index, tensor in enumerate(held):
            if tensor.requires_grad:
                self._put(found, index, tensor)
        return found

    def leaves(self, member: int) -> tuple[list[Any], list[tuple[Tensor, Tensor]]]:
        """One member's tensors, its parameters as leaves of their own, and each of these with the packed parameter that it is a share of.

        Raises:
            NotPlain: they cannot be split here.
        """
        held = self.held()
        own = list(self._with_numbers(held, self._kept(held))[member])
        pairs = []
        for index, tensor in enumerate(held):
            if tensor.requires_grad and not self.slots[index].stored:
                own[index] = own[index].detach().requires_grad_()
                pairs.append((own[index], tensor))
        return own, pairs

    def _kept(self, held: list[Tensor]) -> list[list[Any]]:
        """Views without history, made again only where the network holds other tensors than last time."""
        same = self._views is not None and all(
            tensor is known and tensor.data_ptr() == place for tensor, (known, place) in zip(held, self._key, strict=True)
        )
        if not same:
            if any(type(tensor) not in _PLAIN for tensor in held):
                raise NotPlain
            with torch.inference_mode(False), torch.no_grad():
                self._views = self._split([tensor.detach() for tensor in held])
            self._key = [(tensor, tensor.data_ptr()) for tensor in held]
        views: list[list[Any]] = self._views  # type: ignore[assignment]
        return views

    def _with_numbers(self, held: list[Tensor], views: list[list[Any]]) -> list[list[Any]]:
        """Numbers that all members share change once: the first member has the number itself."""
        for index in self._numbers:
            for own in views[1:]:
                own[index] = held[index].clone() if self.slots[index].kind == "number" else None
        return views

    def _split(self, held: list[Tensor]) -> list[list[Any]]:
        found: list[list[Any]] = [[None] * len(held) for _ in range(self.members)]
        for index, tensor in enumerate(held):
            self._put(found, index, tensor)
        return found

    def _put(self, found: list[list[Any]], index: int, tensor: Tensor) -> None:
        """One tensor's views; what the graph writes to is written to without history."""
        slot = self.slots[index]
        tensor = tensor.detach() if slot.stored else tensor
        if slot.kind != "packed":
            own: Any = (tensor,) * self.members
        else:
            own = (tensor.unflatten(0, (self.members, -1)) if slot.shape else tensor).unbind(0)
        for member, share in enumerate(own):
            found[member][index] = share


_PLAIN = (Tensor, nn.Parameter)


def is_watched() -> bool:
    """Whether something follows the calls of this forward pass, which then has to make its views itself.

    A compiler, an exporter, a transform of torch.func, forward differentiation, a mode that sees every operator.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or _get_current_dispatch_mode() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )
