"""Which packed network a part belongs to, so that a part can be asked and told how it is run: ``packed.layer1.strategy = "in turn"``."""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn

from packify.core.errors import PackError
from packify.nn.wrappers import plain_name

OWNER = "_packify_owner"
"""Where a part of a packed network keeps its `Owner`."""


class Owner:
    """A network that a part belongs to. A copy of the network owns the copies of its parts; a part that is copied alone has no owner."""

    def __init__(self, network: Any = None) -> None:
        self._network = None if network is None else weakref.ref(network)

    @property
    def network(self) -> Any:
        """The packed network; None where there is none, or none any longer."""
        return None if self._network is None else self._network()

    def __copy__(self) -> Owner:
        return Owner()

    def __deepcopy__(self, memo: dict[int, Any]) -> Owner:
        return Owner(memo.get(id(self.network)))

    def __reduce__(self) -> Any:
        return Owner, ()


def own_parts(network: nn.Module, body: nn.Module) -> None:
    """Let every part of a packed network know whose it is."""
    owner = Owner(network)
    for part in body.modules():
        vars(part)[OWNER] = owner


def strategy_of(part: nn.Module) -> str:
    """How a part is run: ``"auto"`` where nothing was said, or where it belongs to no packed network."""
    network = _network_of(part)
    if network is None:
        return "auto"
    chosen = network.strategies
    return next((chosen[name] for name in names_in(network, part) if name in chosen), "auto")


def choose_strategy(part: nn.Module, name: Any) -> None:
    """Let the packed network run a part of it in another way.

    Raises:
        PackError: it is no part of a packed network.
        SpecError: there is no such way, or the part cannot be run so.
    """
    network = _network_of(part)
    names = [] if network is None else names_in(network, part)
    if not names:
        raise PackError(
            f"strategy of a {type(part).__name__}",
            found="a module that is no part of a packed network",
            why="how members are run is a packed network's choice: a member alone, or a copy of a part, has nothing to choose",
            fix='set it in the network: packed.layer1.strategy = "in turn"',
        )
    network.strategies = {**network.strategies, **dict.fromkeys(names, name)}


def names_in(network: nn.Module, part: nn.Module) -> list[str]:
    """The dotted names of a part, one after the other where it has several."""
    return [plain_name(name) for name, module in network.named_modules(remove_duplicate=False) if module is part and name]


def _network_of(part: nn.Module) -> Any:
    owner = vars(part).get(OWNER)
    return None if owner is None else owner.network
