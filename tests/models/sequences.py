"""Small networks on tokens and time steps as users write them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Recurrent(nn.Module):
    def __init__(self, kind: str, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        make = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind]
        self.embed = nn.Linear(5, 8)
        self.rnn = make(8, 12, num_layers=layers, batch_first=True, bidirectional=bidirectional, dropout=dropout)
        self.head = nn.Linear(12 * (1 + bidirectional), 3)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(self.embed(x))
        return self.head(out[:, -1])


class LastState(nn.Module):
    """Reads the hidden state, time first, and starts from a state of zeros of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 8, num_layers=2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        start = torch.zeros(2, x.size(1), 8, dtype=x.dtype, device=x.device)
        _, (hidden, _) = self.rnn(x, (start, start))
        return self.head(hidden[-1])


class Cells(nn.Module):
    """An unrolled LSTMCell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(5, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden, cell = x.new_zeros(x.shape[0], 8), x.new_zeros(x.shape[0], 8)
        for step in range(x.shape[1]):
            hidden, cell = self.cell(x[:, step], (hidden, cell))
        return self.head(hidden)


class Encoder(nn.Module):
    """nn.TransformerEncoder with a class token and a position embedding."""

    def __init__(self, norm_first: bool = False, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.cls = nn.Parameter(torch.zeros(1, 1, 16))
        self.pos = nn.Parameter(torch.randn(1, 6, 16) * 0.02)
        layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=dropout, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.pos
        return self.head(self.encoder(x)[:, 0])


class Seq2Seq(nn.Module):
    """nn.Transformer with a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(11, 8), nn.Embedding(13, 8)
        self.transformer = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
        self.out = nn.Linear(8, 13)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = torch.triu(torch.full((target.shape[1], target.shape[1]), -math.inf), diagonal=1).to(self.out.weight.dtype)
        source, target = self.source(source), self.target(target)
        return self.out(self.transformer(source, target, tgt_mask=mask))


class Attending(nn.Module):
    """nn.MultiheadAttention with its weights as a second output."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Linear(5, 12)
        self.attention = nn.MultiheadAttention(12, 3, batch_first=batch_first)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(x if self.batch_first else x.transpose(0, 1))
        out, weights = self.attention(x, x, x)
        out = self.norm(x + out)
        return self.head(out.mean(1 if self.batch_first else 0)), weights


class CrossAttending(nn.Module):
    """Keys and values of other widths than the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(5, 12), nn.Linear(4, 6)
        self.attention = nn.MultiheadAttention(12, 2, kdim=6, vdim=6, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        memory = self.key(memory)
        out, _ = self.attention(self.query(x), memory, memory, need_weights=False)
        return self.head(out).mean(1)


class Text(nn.Module):
    """Embeddings with padding, a mask of the padding and a mean over what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12, padding_idx=0)
        self.fc, self.head = nn.Linear(12, 10), nn.Linear(10, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = (tokens != 0).unsqueeze(-1)
        x = self.embed(tokens).masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)
        return self.head(self.fc(x).relu())


class TiedText(nn.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.pos = nn.Embedding(5, 8)
        self.fc = nn.Linear(8, 8)
        self.out = nn.Linear(8, 12, bias=False)
        self.out.weight = self.embed.weight
        self.register_buffer("positions", torch.arange(5), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.pos(self.positions[: tokens.shape[1]])
        return self.out(x + self.fc(x).tanh())


class Vit(nn.Module):
    """Patches, qkv by reshape and unbind, layer scale, a distilled pair of heads that are averaged."""

    def __init__(self, dim: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.patch = nn.Conv2d(3, dim, 4, stride=4)
        self.cls, self.dist = nn.Parameter(torch.zeros(1, 1, dim)), nn.Parameter(torch.zeros(1, 1, dim))
        self.pos = nn.Parameter(torch.zeros(1, 6, dim))
        self.norm1, self.qkv, self.proj = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm2, self.up, self.down = nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.gamma1, self.gamma2 = nn.Parameter(torch.full((dim,), 1e-2)), nn.Parameter(torch.full((dim,), 1e-2))
        self.norm = nn.LayerNorm(dim)
        self.head, self.head_dist = nn.Linear(dim, 3), nn.Linear(dim, 3)

    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), self.dist.expand(x.shape[0], -1, -1), x), 1) + self.pos
        x = x + self.gamma1 * self.attend(self.norm1(x))
        x = self.norm(x + self.gamma2 * self.down(F.gelu(self.up(self.norm2(x)))))
        return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2


class Window(nn.Module):
    """Shifted windows with a relative bias table read through an index buffer."""

    def __init__(self, dim: int = 8, heads: int = 2, window: int = 2) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.embed = nn.Conv2d(3, dim, 1)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)
        grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = (grid[:, :, None] - grid[:, None, :]).permute(1, 2, 0) + window - 1
        self.register_buffer("index", relative[..., 0] * (2 * window - 1) + relative[..., 1])
        self.head = nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        size, n = self.window, self.window**2
        x = torch.roll(x, shifts=(-1, -1), dims=(1, 2))
        windows = x.view(b, h // size, size, w // size, size, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, n, c)
        qkv = self.qkv(windows).reshape(windows.shape[0], n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1).contiguous()
        out = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=bias.unsqueeze(0))
        out = self.proj(out.transpose(1, 2).reshape(-1, n, c))
        out = out.view(b, h // size, w // size, size, size, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return self.head(torch.roll(out, shifts=(1, 1), dims=(1, 2)).mean((1, 2)))


class Mixer(nn.Module):
    """Token mixing by transposing, and a gate that halves the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.norm1, self.tokens = nn.LayerNorm(8), nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 6))
        self.norm2, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(12, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        value, gate = self.up(self.norm2(x)).chunk(2, dim=-1)
        return self.head((x + self.down(value * gate.sigmoid())).mean(1))


class Einsums(nn.Module):
    """Projections written as einsum with weights of several axes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.query, self.key = nn.Parameter(torch.randn(2, 8, 4)), nn.Parameter(torch.randn(2, 8, 4))
        self.out = nn.Parameter(torch.randn(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        query, key = torch.einsum("bnc,hcd->bhnd", x, self.query), torch.einsum("bnc,hcd->bhnd", x, self.key)
        weights = torch.einsum("bhid,bhjd->bhij", query, key).softmax(-1)
        return torch.einsum("bhij,bjc,ck->bk", weights, x, self.out)
