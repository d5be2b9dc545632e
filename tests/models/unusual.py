"""Less usual ways to write a network: weights computed per sample, codebooks, rotary positions, tables made in forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Rotary(nn.Module):
    """Rotary positions made in forward and cast by ``to(other)``."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        tokens, width = x.shape[1:]
        angles = torch.outer(torch.arange(tokens).to(x), 10 ** (-torch.arange(0, width, 2).to(x) / width))
        cos, sin = angles.cos().repeat_interleave(2, -1), angles.sin().repeat_interleave(2, -1)
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
        return self.head((x * cos + turned * sin).tanh()).mean(1)


class Biased(nn.Module):
    """Attention with a bias by distance, one slope per head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.head = nn.Linear(5, 8), nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, 2, -1).permute(2, 0, 3, 1, 4)
        bias = -(torch.arange(n)[None] - torch.arange(n)[:, None]).abs()[None] * torch.tensor([0.5, 0.25])[:, None, None]
        return self.head(F.scaled_dot_product_attention(q, k, v, attn_mask=bias.type_as(q)).transpose(1, 2).reshape(b, n, c).mean(1))


class Coordinates(nn.Module):
    """Two channels of coordinates joined to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(5, 8, 3), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        rows = torch.linspace(-1, 1, h).view(1, 1, -1, 1).expand(b, 1, h, w).to(x)
        columns = torch.linspace(-1, 1, w).view(1, 1, 1, -1).expand(b, 1, h, w).to(x)
        return self.head(self.conv(torch.cat([x, rows, columns], 1)).relu()).mean((2, 3))


class PerSample(nn.Module):
    """Kernels mixed per sample; the batch becomes groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.route, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2), nn.Conv2d(4, 2, 1)
        self.experts = nn.Parameter(torch.randn(2, 4, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, c, h, w = x.shape
        route = self.route(x.mean((2, 3))).softmax(-1)
        kernels = torch.einsum("be,eoikl->boikl", route, self.experts).reshape(b * 4, 4, 3, 3)
        x = F.conv2d(x.reshape(1, b * c, h, w), kernels, groups=b, padding=1).view(b, -1, h, w)
        return self.head(x.relu()).mean((2, 3))


class Codebook(nn.Module):
    """A vector quantiser with a straight-through gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.codes, self.head = nn.Linear(5, 8), nn.Embedding(7, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        distances = x.pow(2).sum(1, keepdim=True) - 2 * x @ self.codes.weight.t() + self.codes.weight.pow(2).sum(1)
        codes = self.codes(distances.argmin(1))
        return self.head(x + (codes - x).detach())


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gate, self.head = nn.Linear(5, 8), nn.Linear(8, 3), nn.Linear(8, 2)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        gate = self.gate(x).softmax(-1)
        return self.head(sum(gate[:, index : index + 1] * expert(x).relu() for index, expert in enumerate(self.experts)))


class Queries(nn.Module):
    """Learned queries decode an image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.queries = nn.Conv2d(3, 8, 4, stride=4), nn.Embedding(5, 8)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True), 1)
        self.classes, self.boxes = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x).flatten(2).permute(0, 2, 1)
        x = self.decoder(self.queries.weight.unsqueeze(0).repeat(x.shape[0], 1, 1), x)
        return {"logits": self.classes(x), "boxes": self.boxes(x).sigmoid()}


class LowRank(nn.Module):
    """A weight with a low-rank correction, and two kernels fused on the fly."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3, self.conv1 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.fc, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
        self.down, self.up = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.randn(2, 8))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.conv3.weight + F.pad(self.conv1.weight, [1, 1, 1, 1])
        x = F.conv2d(x, kernel, self.conv3.bias + self.conv1.bias, padding=1).relu().mean((2, 3))
        return self.head(F.linear(x, self.fc.weight + (self.down @ self.up).T, self.fc.bias).relu())
