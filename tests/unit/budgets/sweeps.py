"""What the tests of this room share."""

import torch

X = torch.zeros(2, 64)
