"""The module tree of a member or a packed network: the reference's names, plain torch layers where they exist, no user code."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from packify.nn.block import Block
from packify.nn.exchange import PLACE, Exchangeable
from packify.nn.members import OWN_CODE
from packify.nn.ports import PORTS

# Tensors that the reference's code has made are buffers called so, of the module whose code it was.
CONSTANT = "_constant_"


def is_constant(name: str) -> bool:
    """Whether a tensor's dotted name is that of a constant of the code, which all members share."""
    return name.rpartition(".")[2].startswith(CONSTANT)


MakeTensor = Callable[[str, torch.Tensor], torch.Tensor | None]


class Scope(Exchangeable):
    """A module of the reference that is only a name here: it holds parameters and children, the graph does its work.

    Indexing and iterating work as on the reference's containers: ``packed.layer1[0].conv1``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.__dict__["_scope_kind"] = kind

    def _get_name(self) -> str:
        return str(self.__dict__["_scope_kind"])

    def __getitem__(self, index: int | str) -> nn.Module:
        if isinstance(index, str):
            return self._modules[index]  # type: ignore[return-value]
        return list(self._modules.values())[index]  # type: ignore[return-value]

    def __setitem__(self, index: int | str, module: nn.Module) -> None:
        setattr(self, index if isinstance(index, str) else list(self._modules)[index], module)

    def __len__(self) -> int:
        return len(self._modules)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._modules.values())  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return ", ".join(
            f"{name}={tuple(tensor.shape)}" for name, tensor in (*self._parameters.items(), *self._buffers.items()) if tensor is not None
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            f"this {self._get_name()} is a part of a packed network and has no forward of its own; "
            "call the packed network, or extract(m)(x)"
        )


def build_tree(reference: nn.Module, make: MakeTensor, leaves: tuple[type[nn.Module], ...] = ()) -> nn.Module:
    """A tree with the reference's names whose tensors are ``make(name, reference tensor)``. Tied tensors and modules stay tied.

    Args:
        reference: the module tree to follow.
        make: gives the new parameter or buffer; None leaves it out, and a layer without its weight is only a name.
        kept: types copied whole, with their own code.
    """
    tensors: dict[int, torch.Tensor | None] = {}
    modules: dict[int, nn.Module] = {}

    def tensor_for(name: str, tensor: torch.Tensor | None) -> torch.Tensor | None:
        if tensor is None:
            return None
        if id(tensor) not in tensors:
            new = make(name, tensor)
            is_parameter = new is not None and isinstance(tensor, nn.Parameter)
            tensors[id(tensor)] = nn.Parameter(new, requires_grad=tensor.requires_grad) if is_parameter else new  # type: ignore[arg-type]
        return tensors[id(tensor)]

    def visit(module: nn.Module, prefix: str, inside: bool) -> nn.Module:
        if id(module) in modules:
            return modules[id(module)]
        inside = inside or isinstance(module, leaves)
        parameters = {name: tensor_for(prefix + name, tensor) for name, tensor in module._parameters.items()}
        whole = all(parameters[name] is not None for name, tensor in module._parameters.items() if tensor is not None and name != "bias")
        new = modules[id(module)] = (
            shallow_copy(module)
            if inside or isinstance(module, Block) or (whole and is_plain_layer(module))
            else Scope(module._get_name() if isinstance(module, Scope) else type(module).__name__)
        )
        new.training = module.training
        vars(new).update({key: vars(module)[key] for key in (PLACE, PORTS) if key in vars(module)})
        new._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
        new._parameters.update(parameters)  # type: ignore[arg-type]
        for name, buffer in module._buffers.items():
            new._buffers[name] = tensor_for(prefix + name, buffer)
        for name, child in module._modules.items():
            new._modules[name] = None if child is None else visit(child, f"{prefix}{name}.", inside)
        if isinstance(new, nn.RNNBase) and whole:
            new._init_flat_weights()
        return new

    return visit(reference, "", False)


def add_constants(tree: nn.Module, constants: Mapping[str, torch.Tensor], device: torch.device | None = None) -> None:
    """Give every module the constants of its code, by their dotted names."""
    for name, constant in constants.items():
        path, _, own = name.rpartition(".")
        tensor = constant.detach() if device is None else constant.detach().to(device)
        tree.get_submodule(path).register_buffer(own, tensor, persistent=False)


def sized_tree(reference: nn.Module, make: MakeTensor, leaves: tuple[type[nn.Module], ...] = ()) -> nn.Module:
    """`build_tree`, whose layers' integer attributes tell the sizes of the tensors they hold."""
    root = build_tree(reference, make, leaves)
    whole = leaf_names(root, leaves)
    for name, module in root.named_modules():
        if name not in whole:
            state_sizes(module)
    return root


def leaf_names(root: nn.Module, leaves: tuple[type[nn.Module], ...]) -> set[str]:
    """The names of all modules that are kept whole, their parts included."""
    if not leaves:
        return set()
    whole = [name for name, module in root.named_modules() if isinstance(module, leaves)]
    return {name for name, _ in root.named_modules() if any(name == outer or name.startswith(f"{outer}.") for outer in whole)}


def is_plain_layer(module: nn.Module) -> bool:
    """A layer of torch.nn itself, without children."""
    return (
        type(module).__module__.startswith("torch.nn.modules")
        and not module._modules
        and not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
    )


_UNCHANGING = frozenset((int, float, bool, str, type(None)))


def shallow_copy(module: nn.Module) -> nn.Module:
    """The same class and settings, no tensors, children or hooks."""
    new = type(module).__new__(type(module))
    own = vars(new)
    for key, value in vars(module).items():
        if key.endswith("_hooks") or "_hooks_" in key:
            own[key] = OrderedDict()
        elif type(value) in _UNCHANGING:
            own[key] = value
        elif key in ("_parameters", "_buffers", "_modules"):
            own[key] = {}
        elif key not in ("forward", OWN_CODE):
            own[key] = copy.copy(value)
    if isinstance(new, nn.RNNBase):
        new._flat_weight_refs = []
        new._flat_weights = []
    return new


# Integer attributes that state a tensor's size: (type, attribute, tensor, axis). `groups` multiplies an axis that is per group.
_SIZES: tuple[tuple[type[nn.Module], str, str, int], ...] = (
    (nn.Linear, "in_features", "weight", 1),
    (nn.Linear, "out_features", "weight", 0),
    (nn.Bilinear, "in1_features", "weight", 1),
    (nn.Bilinear, "in2_features", "weight", 2),
    (nn.Bilinear, "out_features", "weight", 0),
    (nn.Embedding, "num_embeddings", "weight", 0),
    (nn.Embedding, "embedding_dim", "weight", 1),
    (nn.modules.batchnorm._NormBase, "num_features", "weight", 0),
    (nn.modules.batchnorm._NormBase, "num_features", "running_mean", 0),
    (nn.GroupNorm, "num_channels", "weight", 0),
    (nn.PReLU, "num_parameters", "weight", 0),
)
_SIZED = (*{kind for kind, *_ in _SIZES}, nn.modules.conv._ConvNd, nn.LayerNorm, nn.RMSNorm, nn.RNNBase)


def state_sizes(module: nn.Module, groups: int | None = None) -> None:
    """Make a layer's integer attributes tell the sizes of the tensors it holds."""
    if not isinstance(module, _SIZED):
        return
    one_each = isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels
    for kind, attribute, name, axis in _SIZES:
        tensor = getattr(module, name, None) if isinstance(module, kind) else None
        if isinstance(tensor, torch.Tensor):
            vars(module)[attribute] = tensor.shape[axis]
    if one_each:
        module.num_groups = module.num_channels
    if isinstance(module, nn.modules.conv._ConvNd):
        module.groups = module.groups if groups is None else groups
        first, second = module.weight.shape[:2]
        module.in_channels, module.out_channels = (first, second * module.groups) if module.transposed else (second * module.groups, first)
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)
    if isinstance(module, nn.RNNBase):
        own: Any = module  # torch names its weights when it is built
        gates = {"LSTM": 4, "GRU": 3}.get(module.mode.split("_")[0], 1)
        module.input_size = own.weight_ih_l0.shape[1]
        module.hidden_size = own.weight_ih_l0.shape[0] // gates
        module.proj_size = own.weight_hr_l0.shape[0] if module.proj_size else 0
        module._init_flat_weights()


def resized(reference: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A table at a member's shape: the leading part of every axis, repeated where the member is larger."""
    for axis, size in enumerate(shape):
        have = reference.shape[axis]
        if size > have:
            reference = torch.cat([reference] * -(-size // have), axis)
        reference = reference.narrow(axis, 0, size)
    return reference
