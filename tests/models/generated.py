"""Networks made of random blocks. A network of blocks at twice the width has exactly twice the hidden widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _norm(kind: int, width: int) -> nn.Module:
    return [nn.BatchNorm2d(width), nn.GroupNorm(2, width), nn.InstanceNorm2d(width, affine=True), nn.Identity()][kind % 4]


class Plain(nn.Module):
    """A conv, a norm, an activation."""

    def __init__(self, width: int, kind: int, grow: int = 1) -> None:
        super().__init__()
        self.out = width * grow
        self.conv, self.norm = nn.Conv2d(width, self.out, 3, padding=1, bias=kind % 2 == 0), _norm(kind, self.out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Residual(nn.Module):
    """Post- or pre-activation, with a stride and a projection for even kinds."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        self.pre, stride, self.out = kind % 2 == 1, 1 + (kind % 3 == 0), width * (1 + (kind % 3 == 0))
        self.norm1, self.norm2 = nn.BatchNorm2d(width if self.pre else self.out), _norm(kind, self.out)
        self.conv1, self.conv2 = (
            nn.Conv2d(width, self.out, 3, stride, 1, bias=False),
            nn.Conv2d(self.out, self.out, 3, padding=1, bias=False),
        )
        self.short = nn.Conv2d(width, self.out, 1, stride) if kind % 3 == 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.pre:
            return self.short(x) + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return F.relu(self.short(x) + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class Branches(nn.Module):
    """Two branches, and for odd kinds the input, joined: an even number of channels again, which blocks with two groups take."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        self.keep, half = kind % 2 == 1, width // 4 * 2
        self.one, self.two = nn.Conv2d(width, width, 1), nn.Conv2d(width, half, 3, padding=1)
        self.out = width + half + (width if self.keep else 0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.two(x).relu()] + ([x] if self.keep else []), dim=1)


class Grouped(nn.Module):
    """Depthwise, then grouped, then pointwise convs."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        self.out = width
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.grouped = nn.Conv2d(width, width, 1, groups=2)
        self.point = nn.Conv2d(width, width, 1)
        self.shuffle = kind % 2 == 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(F.hardswish(self.depthwise(x)))
        if self.shuffle:
            b, c, h, w = x.shape
            x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.point(x)


class Excite(nn.Module):
    """Squeeze and excitation by convs or by linear layers."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        self.out, self.flat = width, kind % 2 == 1
        layer = nn.Linear if self.flat else lambda inp, out: nn.Conv2d(inp, out, 1)
        self.down, self.up = layer(width, width // 2), layer(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3)) if self.flat else F.adaptive_avg_pool2d(x, 1)
        gate = self.up(F.relu(self.down(gate))).sigmoid()
        return x * (gate[:, :, None, None] if self.flat else gate)


class Halves(nn.Module):
    """The channels are cut in two; one half is treated and joined again, or gates the other."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        self.kind, self.half = kind % 3, width // 2
        self.conv = nn.Conv2d(width // 2, width // 2, 3, padding=1)
        self.out = width if self.kind < 2 else width // 2
        self.after = nn.Conv2d(self.out, width, 1)
        self.out = width

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == 0:
            one, two = x.chunk(2, dim=1)
            return self.after(torch.cat((one, self.conv(two)), 1))
        if self.kind == 1:
            return self.after(torch.cat((x[:, : self.half], self.conv(x[:, self.half :])), 1))
        one, two = torch.split(x, self.half, 1)
        return self.after(self.conv(one) * two.sigmoid())


class UpDown(nn.Module):
    """Down by pooling, up by a transposed conv or by interpolation, joined or added to the input."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        self.kind = kind
        self.mid = nn.Conv2d(width, width * 2, 3, padding=1)
        self.up = nn.ConvTranspose2d(width * 2, width, 2, stride=2) if kind % 2 else nn.Conv2d(width * 2, width, 1)
        self.out = width * 2 if kind % 3 else width

    def forward(self, x: Tensor) -> Tensor:
        low = self.mid(F.avg_pool2d(x, 2, ceil_mode=True)).relu()
        up = self.up(low) if self.kind % 2 else F.interpolate(self.up(low), scale_factor=2)
        up = up[:, :, : x.shape[2], : x.shape[3]]
        return torch.cat([x, up], 1) if self.kind % 3 else x + up


class LayerNormed(nn.Module):
    """A ConvNeXt-like block: channels last, layer scale, dropout."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        self.out = width
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1, groups=width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.scale, self.drop = nn.Parameter(torch.full((width,), 0.1)), nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.drop(self.down(F.gelu(self.up(y))))).permute(0, 3, 1, 2)


IMAGE_BLOCKS: dict[str, Callable[[int, int], nn.Module]] = {
    "plain": Plain, "grow": lambda width, kind: Plain(width, kind, 2), "residual": Residual, "branches": Branches, "grouped": Grouped,
    "excite": Excite, "halves": Halves, "up and down": UpDown, "layer normed": LayerNormed,
}  # fmt: skip


class Images(nn.Module):
    """A stem, blocks, and a head for classes or for a dense map."""

    def __init__(self, blocks: Sequence[tuple[str, int]], width: int, dense: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList()
        for name, kind in blocks:
            block = IMAGE_BLOCKS[name](width, kind)
            width = int(block.out)  # type: ignore[arg-type]
            self.blocks.append(block)
        self.dense = dense
        self.head = nn.Conv2d(width, 3, 1) if dense else nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x) if self.dense else self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Self-attention in five spellings; heads have four channels, as families keep the size of a head."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        heads = max(1, width // 4)
        self.kind, self.heads = kind % 5, heads
        self.norm = nn.LayerNorm(width)
        if self.kind == 0:
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        elif self.kind == 4:
            self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        else:
            self.qkv = nn.Linear(width, 3 * width, bias=kind % 2 == 0)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        if self.kind == 0:
            return x + self.proj(self.attention(y, y, y, need_weights=False)[0])
        b, n, c = y.shape
        if self.kind == 4:
            q, k, v = (layer(y).view(b, n, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        elif self.kind == 1:
            q, k, v = self.qkv(y).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        elif self.kind == 2:
            q, k, v = (part.reshape(b, n, self.heads, -1).permute(0, 2, 1, 3) for part in self.qkv(y).chunk(3, dim=-1))
        else:
            q, k, v = self.qkv(y).view(b, n, self.heads, -1).transpose(1, 2).split(c // self.heads, dim=-1)
        if self.kind == 1:
            out = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        elif self.kind == 2:
            out = torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1), v)
        else:
            out = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(out.transpose(1, 2).reshape(b, n, c))


class TokenMix(nn.Module):
    """Tokens are mixed through a transpose, or by a 1-D conv over them."""

    def __init__(self, width: int, kind: int, tokens: int) -> None:
        super().__init__()
        self.conv = kind % 2 == 1
        self.norm = nn.LayerNorm(width)
        self.mix = (
            nn.Conv1d(width, width, 3, padding=1, groups=width if kind % 4 == 1 else 1)
            if self.conv
            else nn.Sequential(nn.Linear(tokens, width), nn.GELU(), nn.Linear(width, tokens))
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2)


class Gated(nn.Module):
    """Gated MLPs in three spellings, with a layer scale."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        self.kind = kind % 3
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(2 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))
        self.width = 2 * width

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        if self.kind == 0:
            y = F.glu(y, dim=-1)
        elif self.kind == 1:
            one, two = torch.split(y, [self.width, self.width], dim=-1)
            y = F.silu(one) * two
        else:
            y = y[..., : self.width] * y[..., self.width :].sigmoid()
        return x + self.scale * self.down(y)


class Twice(nn.Module):
    """One layer used twice, or two layers that share a weight."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)
        if kind % 2:
            self.two.weight = self.one.weight
        else:
            self.two = self.one

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(torch.tanh(self.one(x)))


class Joined(nn.Module):
    """Several projections joined along channels, then cut unevenly."""

    def __init__(self, width: int, kind: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.last, self.stacked = nn.Linear(width, width), kind % 2 == 1
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.one(x), self.two(x)
        if self.stacked:
            y = torch.stack([one, *two.chunk(2, -1)], dim=2).amax(2)
        else:
            first, second = torch.cat([one, two], -1).split([2 * self.width, self.width], -1)
            y = first[..., : self.width] + second
        return x + self.last(y)


TOKEN_BLOCKS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "attention": lambda width, kind, tokens: Attention(width, kind),
    "mix": TokenMix,
    "gated": lambda width, kind, tokens: Gated(width, kind),
    "twice": lambda width, kind, tokens: Twice(width, kind),
    "joined": lambda width, kind, tokens: Joined(width, kind),
}


class Tokens(nn.Module):
    """An embedding, class token and positions, blocks, a second input, and outputs in several structures."""

    def __init__(self, blocks: Sequence[tuple[str, int]], width: int, outputs: str = "one", second: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(5, width)
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.pos = nn.Parameter(torch.randn(1, 7, width))
        self.blocks = nn.ModuleList(TOKEN_BLOCKS[name](width, kind, 7) for name, kind in blocks)
        self.other = nn.Linear(4, width) if second else None
        self.norm, self.outputs = nn.LayerNorm(width), outputs
        self.head = nn.Linear(width, 3)
        self.aux = nn.Linear(width, 2) if outputs != "one" else None

    def forward(self, x: Tensor, y: Tensor | None = None) -> object:
        x = self.embed(x)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.pos
        if self.other is not None and y is not None:
            x = x + self.other(y).unsqueeze(1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if self.aux is None:
            return self.head(x[:, 0])
        one, two = self.head(x[:, 1:].mean(1)), self.aux(x[:, 0])
        return {"out": one, "aux": two} if self.outputs == "dict" else (one, two)
