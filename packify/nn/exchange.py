"""Exchanging parts of a packed network or of a member: what fits, what was exchanged, and what that means for members."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from packify.core import nested
from packify.core.errors import PackError
from packify.nn.layouts import Layout
from packify.nn.members import FRONT, OWN_CODE, split_members
from packify.nn.ports import PORTS, Ports, ports_of, tree_text
from packify.nn.wrappers import plain_name, unwrapped

PLACE = "_packify_place"
"""Where a part that packing has made keeps its names in the whole network."""


class Exchangeable(nn.Module):
    """A module whose parts can be exchanged by assignment; what does not fit is refused."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module) and name in self.__dict__.get("_modules", ()):
            require_fit(self, name, value)
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return tree_text(self)


def mark_places(tree: nn.Module) -> None:
    """Let every part know its names, all of them where it has several."""
    places: dict[int, tuple[nn.Module, list[str]]] = {}
    for name, module in tree.named_modules(remove_duplicate=False):
        places.setdefault(id(module), (module, []))[1].append(plain_name(name))
    for module, names in places.values():
        vars(module)[PLACE] = tuple(names)


def exchanged_parts(network: nn.Module) -> dict[str, nn.Module]:
    """The parts of a network that are not those that packing has put there, outermost ones only."""
    found: dict[str, nn.Module] = {}

    def visit(module: nn.Module, path: str) -> None:
        for name, child in module._modules.items():
            inner = None if child is None else unwrapped(child)
            place = f"{path}.{name}".lstrip(".")
            if inner is None or name in _BESIDES:
                continue
            if place in vars(inner).get(PLACE, ()):
                visit(inner, place)
            else:
                found[place] = inner

    visit(unwrapped(network), "")
    return found


# Parts that torch adds to a module for its own purposes.
_BESIDES = ("parametrizations",)


def require_fit(parent: nn.Module, name: str, new: Any) -> None:
    """Check that a module can take the place of the part called `name`, and let it know the ports of that.

    Raises:
        PackError: it takes or gives something else; nothing has changed.
    """
    old = parent._modules.get(name)
    if OWN_CODE in vars(parent):
        return  # a part of a module that is kept whole
    if old is None or not isinstance(new, nn.Module) or unwrapped(new) is unwrapped(old):
        return  # a new name, or a wrapper around what was there
    before = unwrapped(old)
    ports = ports_of(before)
    where = vars(before).get(PLACE, (name,))[0]
    if not ports:
        raise _refused(where, before, "forward never calls it: it only holds other parts", "exchange its parts, one by one")
    for kind in ports:
        _require_one(where, before, new, kind)
    vars(new)[PORTS] = ports


def _require_one(where: str, old: nn.Module, new: nn.Module, ports: Ports) -> None:
    forms = getattr(type(old), "forms", ())
    if len(forms) > 1 and getattr(type(new), "forms", ()) != forms:
        raise _refused(where, new, f"it is called in {len(forms)} ways, and a call says which", "exchange its parts, one by one")
    try:
        given = [tuple(tensor.shape) for tensor in _tensors(_tried(new, ports, _device_of(old)))]
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else "no message"
        raise _misfit(where, old, new, ports, f"{type(error).__name__}: {message}") from error
    wanted = [layout.packed_shape(ports.members) for layout in ports.outputs]
    if given != wanted:
        raise _misfit(where, old, new, ports, f"it returns {_shapes(given)}")


def _tried(module: nn.Module, ports: Ports, device: torch.device) -> Any:
    """What a module returns for tensors of the shapes that it will be given; nothing is computed."""

    def example(leaf: Any) -> Any:
        if not isinstance(leaf, Layout):
            return leaf
        return torch.empty(leaf.packed_shape(ports.members), dtype=leaf.dtype, device=device)

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), _silent("torch._subclasses.fake_tensor"):
        args, kwargs = nested.map_leaves((ports.args, dict(ports.kwargs)), example)
        return unwrapped(module).forward(*args, **kwargs)


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """A logger that is not heard: torch would print a traceback of its own beside the error that is raised."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _device_of(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in nested.leaves(value) if isinstance(leaf, Tensor)]


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or "no tensor"


def _misfit(where: str, old: nn.Module, new: nn.Module, ports: Ports, found: str) -> PackError:
    inputs, outputs = ([layout.packed_shape(ports.members) for layout in part] for part in (ports.inputs, ports.outputs))
    return PackError(
        where,
        found=f"the new {new._get_name()}: {found}",
        why=f"the {old._get_name()} there is given {_shapes(inputs)} and returns {_shapes(outputs)}, members at {ports}",
        fix=f"give it M = {ports.members} times the channels and groups, or packed.resize({where!r}, size) for a head of another size",
    )


def _refused(where: str, found: nn.Module, why: str, fix: str) -> PackError:
    return PackError(where, found=f"a {found._get_name()}", why=why, fix=fix)


# -- what exchanged parts are for members -----------------------------------------------------------------------------


def require_own_parts(network: nn.Module, what: str) -> None:
    """Refuse what only works on the network that packing has made.

    Raises:
        PackError: naming the first part that was exchanged.
    """
    for where, module in exchanged_parts(network).items():
        raise PackError(
            where,
            found=f"a {module._get_name()} that was put there after packing",
            why=f"{what} is made again from the reference, which has another part there",
            fix="put it into the reference and pack that, and then load_state_dict",
        )


def member_parts(network: nn.Module, member: int) -> dict[str, nn.Module]:
    """For every part that was exchanged, the same for one member alone: a copy, where it treats all members alike.

    Raises:
        PackError: a part has weights, or treats members differently; whose share is whose nobody knows.
    """
    found = {}
    for where, module in exchanged_parts(network).items():
        if any(True for _ in (*module.parameters(), *module.buffers())):
            raise PackError(
                where,
                found=f"a {module._get_name()} with weights that was put there after packing",
                why=f"which of them are member {member}'s is not known",
                fix="put the layer into the reference and pack that; packed.resize(name, size) gives every member a new head",
            )
        if not all(_treats_members_alike(module, ports) for ports in ports_of(module)):
            raise PackError(
                where,
                found=f"a {module._get_name()} that computes something else of all members together than of each one alone",
                why="so there is no such part for a member alone, and members are not independent",
                fix="exchange it for one that works on each member's channels, or put it into the reference and pack that",
            )
        found[where] = copy.deepcopy(module)
    return found


def _treats_members_alike(module: nn.Module, ports: Ports) -> bool:
    """Whether a part without weights gives each member what it would give that member alone; tried out on random numbers."""
    if not ports.inputs or any(not layout.dtype.is_floating_point for layout in ports.inputs) or not ports.outputs:
        return False
    was, generator = module.training, torch.Generator().manual_seed(0)

    def example(leaf: Any) -> Any:
        if not isinstance(leaf, Layout):
            return leaf
        return torch.randn(leaf.packed_shape(ports.members), generator=generator, dtype=torch.float64)

    packed = nested.map_leaves((ports.args, dict(ports.kwargs)), example)
    try:
        module.eval()
        with torch.no_grad():
            whole = _tensors(module.forward(*packed[0], **packed[1]))
            for member in range(ports.members):
                args, kwargs = _share(packed, ports.inputs, ports.members, member)
                alone = _tensors(module.forward(*args, **kwargs))
                shares = [_member_of(tensor, layout, ports.members, member) for tensor, layout in zip(whole, ports.outputs, strict=True)]
                if not all(one.shape == two.shape and torch.allclose(one, two) for one, two in zip(shares, alone, strict=True)):
                    return False
    except Exception:  # what it cannot compute it does not compute alike
        return False
    finally:
        module.train(was)
    return True


def _share(packed: Any, layouts: tuple[Layout, ...], members: int, member: int) -> Any:
    left = iter(layouts)

    def own(leaf: Any) -> Any:
        return _member_of(leaf, next(left), members, member) if isinstance(leaf, Tensor) else leaf

    return nested.map_leaves(packed, own)


def _member_of(tensor: Tensor, layout: Layout, members: int, member: int) -> Tensor:
    return tensor if layout.axis is None else split_members(tensor, layout.axis, members)[member]


def replace_parts(network: nn.Module, which: Any, make: Callable[[nn.Module], nn.Module]) -> list[str]:
    """Exchange every part of some types, or that a function chooses, for what `make` makes of it.

    A block of a module of the user's own is one of that module's type.

    Raises:
        PackError: there is no such part, or a new one does not fit; those before it are exchanged.
    """
    kinds = which if isinstance(which, tuple) else (which,) if isinstance(which, type) else ()
    chosen: dict[int, tuple[nn.Module, list[str]]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if name and ports_of(module) and (_is_one_of(module, kinds) if kinds else which(module)):
            chosen.setdefault(id(module), (module, []))[1].append(name)
    if not chosen:
        called = {part._get_name() for name, part in network.named_modules() if name and ports_of(part)}
        raise PackError(
            f"replace({getattr(which, '__name__', which)!r})",
            found="no part of that kind that is called",
            why="a replacement that changes nothing is a mistake",
            fix=f"choose one of {', '.join(sorted(called))}",
        )
    for module, names in chosen.values():
        new = make(module)
        for name in names:
            path, _, own = name.rpartition(".")
            setattr(network.get_submodule(path), own, new)
    return [name for _, names in chosen.values() for name in names]


def _is_one_of(module: nn.Module, kinds: tuple[type, ...]) -> bool:
    """Of a type, or the block of a module that is: a block only has the name of its module's type."""
    if isinstance(module, kinds):
        return True
    return isinstance(module, Exchangeable) and str(module._get_name()) in {kind.__name__ for kind in kinds}  # type: ignore[no-untyped-call]


# -- layouts for hooks ------------------------------------------------------------------------------------------------


def by_member(module: nn.Module, value: Any, of: str = "output") -> Any:
    """What a hook of a packed network's module sees, as ``"m ..."``: nested values with every packed tensor split by members.

    ``packed.layer4.register_forward_hook(lambda module, args, output: keep(by_member(module, output)))`` keeps ``"m b c h w"``.
    What all members share has no axis for them and stays as it is.

    Args:
        module: of a packed network; one that is called.
        value: what it returned, or the positional arguments that it was given.
        of: ``"output"``, or ``"input"`` for arguments.

    Raises:
        PackError: the module has no layouts, or none with as many tensors of as many axes.
    """
    kinds = [ports.outputs if of == "output" else ports.inputs for ports in ports_of(module)]
    tensors = _tensors(value)
    fitting = {tuple(layout.axis for layout in layouts[: len(tensors)]) for layouts in kinds if _have_axes(tensors, layouts)}
    if len(fitting) != 1:
        raise PackError(
            module._get_name(),
            found=f"tensors of shapes {[tuple(tensor.shape) for tensor in tensors]}",
            why=f"it is called with members at {', '.join(map(str, ports_of(module))) or 'no known place'}",
            fix="pass what a forward hook of a packed network's part is given: by_member(module, output), by_member(module, args, 'input')",
        )
    axes, members = iter(next(iter(fitting))), ports_of(module)[0].members

    def split(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        axis = next(axes)
        return leaf if axis is None else split_members(leaf, axis, members)

    return nested.map_leaves(value, split)


def _have_axes(tensors: list[Tensor], layouts: tuple[Layout, ...]) -> bool:
    """Whether tensors have the number of axes that the first of some layouts say."""
    wanted = [len(layout.shape) + (layout.axis == FRONT) for layout in layouts[: len(tensors)]]
    return wanted == [tensor.dim() for tensor in tensors]
