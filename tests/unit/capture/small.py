"""A network of one layer and a function of the user's."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Small(nn.Module):
    """One linear layer and a function of the user's."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.fc, self.function = nn.Linear(5, 4), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.fc(x))
