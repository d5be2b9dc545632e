"""Small networks around operators that users bring: transforms, message passing, assignments, weights computed on the fly.

Every one is a stem, a middle and a head of 32 hidden units; `most` in `CASES` is the share of the reference's parameters that
its member at alpha / M = 1/2 may have at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_H = 32


class Around(nn.Module):
    """A stem and a head around a function of features and of a bag of parameters."""

    def __init__(self, middle: Callable[[Tensor, Any], Tensor], image: bool, **parts: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _H, 3, padding=1) if image else nn.Linear(16, _H)
        self.head = nn.Linear(_H, 5)
        self.image, self.middle = image, middle
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            elif isinstance(part, nn.Parameter):
                self.register_parameter(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        y = self.middle(torch.relu(self.stem(x)), self, *others)
        return self.head(y.mean((2, 3)) if self.image else y)


@dataclass(frozen=True)
class Case:
    """A network, its inputs, and the largest share of parameters that its member may keep."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    most: float


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.1 * torch.randn(*shape))


def fourier(x: Tensor, m: Any) -> Tensor:
    frequencies = torch.fft.rfft2(x, norm="ortho") * torch.view_as_complex(m.filter)
    return torch.fft.irfft2(frequencies, s=x.shape[-2:], norm="ortho")


def fourier_of_tokens(x: Tensor, m: Any) -> Tensor:
    return torch.fft.fft(torch.fft.fft(x, dim=-1), dim=1).real


def rotary(x: Tensor, m: Any) -> Tensor:
    b, n, c = x.shape
    angles = torch.outer(torch.arange(n, device=x.device), m.inverse)
    turned = torch.view_as_complex(x.reshape(b, n, 2, c // 4, 2)) * torch.complex(angles.cos(), angles.sin())[None, :, None]
    return torch.view_as_real(turned).flatten(2)


def messages(x: Tensor, m: Any, edges: Tensor) -> Tensor:
    source, target = edges
    sent = m.linear(torch.cat([x[source], x[target]], -1))
    summed = torch.zeros_like(x).index_add_(0, target, sent)
    largest = torch.zeros_like(x).scatter_reduce(0, target[:, None].expand(-1, x.shape[1]), sent, "amax", include_self=False)
    gates = torch.zeros_like(x[:, :1]).scatter_add(0, target[:, None], m.gate(sent).exp())
    return summed / (1 + gates) + largest


def shifted(x: Tensor, m: Any) -> Tensor:
    fold = x.shape[1] // 4
    y = torch.zeros_like(x)
    y[:, :fold, :, 1:] = x[:, :fold, :, :-1]
    y[:, fold : 2 * fold, :, :-1] = x[:, fold : 2 * fold, :, 1:]
    y[:, 2 * fold :] = x[:, 2 * fold :]
    y[:, :8] += 1
    return y


def written_through_views(x: Tensor, m: Any) -> Tensor:
    y = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
    row = y[:, :, 0]
    row.copy_(x[:, :, 1])
    row.mul_(2)
    y.select(2, 2).copy_(x[:, :, 0])
    part = y[:, 1:3]
    part += 1
    part[..., 0] = 0.5
    return x + y


def sinusoids(x: Tensor, m: Any) -> Tensor:
    table = torch.zeros(x.shape[1], x.shape[2], dtype=x.dtype, device=x.device)
    angles = torch.arange(x.shape[1], device=x.device)[:, None] * torch.exp(-torch.arange(0, x.shape[2], 2, device=x.device) / x.shape[2])
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    return x + table


def weights_of_each_sample(x: Tensor, m: Any) -> Tensor:
    b, c, h, w = x.shape
    weight = m.make(x.mean((2, 3))).view(b * c, c, 1, 1)
    return F.conv2d(x.reshape(1, b * c, h, w), weight, groups=b).view(b, c, h, w)


def kernel_of_each_channel(x: Tensor, m: Any) -> Tensor:
    b, c, h, w = x.shape
    weight = m.make(x.mean((2, 3))).view(b * c, 1, 3, 3)
    blurred = F.conv2d(x, m.blur.expand(c, 1, 3, 3), padding=1, groups=c)
    return F.conv2d(x.view(1, b * c, h, w), weight, padding=1, groups=b * c).view(b, c, h, w) + blurred


def centres(x: Tensor, m: Any) -> Tensor:
    return x + m.out(torch.softmax(-torch.cdist(x, m.centres), -1))


def tensor_products(x: Tensor, m: Any) -> Tensor:
    y = torch.tensordot(torch.tensordot(x, m.first, dims=([2], [0])).relu(), m.last, dims=2)
    return y @ torch.outer(m.u, m.v) + m.bilinear(x, y)


def sampled(x: Tensor, m: Any) -> Tensor:
    theta = 0.1 * m.where(x.mean((2, 3))).view(-1, 2, 3) + torch.eye(2, 3, dtype=x.dtype, device=x.device)
    return F.grid_sample(x, F.affine_grid(theta, x.size(), align_corners=False), align_corners=False)


def joined(x: Tensor, m: Any) -> Tensor:
    wide = torch.hstack([x[:, :3], x[:, 3:]]) + torch.dstack([x[..., :16], x[..., 16:]])
    return wide + torch.stack([m.linear(token) for token in x.unbind(1)], 1)


def gathered(x: Tensor, m: Any) -> Tensor:
    order = m.order.expand(x.shape[0], -1)
    kept = torch.gather(x, 1, order[:, :3].unsqueeze(-1).repeat(1, 1, x.shape[2]))
    return torch.gather(torch.cat([kept, m.mask.repeat(x.shape[0], 3, 1)], 1), 1, order.argsort(1).unsqueeze(-1).expand(-1, -1, x.shape[2]))


def normalised_weights(x: Tensor, m: Any) -> Tensor:
    return F.linear(x, torch.linalg.solve(torch.eye(x.shape[-1], dtype=x.dtype, device=x.device) + m.skew @ m.skew.T, m.skew)) + m.normed(x)


@torch.jit.script
def gated_by_script(x: Tensor, bias: Tensor) -> Tensor:
    return (x + bias) * torch.sigmoid(1.702 * (x + bias))


def scripted(x: Tensor, m: Any) -> Tensor:
    return gated_by_script(x, m.bias)


def blurred(x: Tensor, m: Any) -> Tensor:
    return F.conv2d(x, m.kernel.repeat(_H, 1, 1, 1), groups=_H) + F.conv2d(x, m.kernel.expand(_H, -1, -1, -1), groups=_H)


def unusual_names(x: Tensor, m: Any) -> Tensor:
    return F.logsigmoid(x) + F.threshold(x, 0.1, 0.0) + torch.special.i0e(x) + torch.arctan(x) + torch.logaddexp(x, 2 - x) + torch.fix(x)


def attention_unlike_in_training(x: Tensor, m: Any) -> Tensor:
    b, t, c = x.shape
    q, k, v = (part.view(b, t, 4, c // 4).transpose(1, 2) for part in m.qkv(x).split(c, dim=2))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=m.training)
    return m.out(y.transpose(1, 2).contiguous().view(b, t, c))


def heads_of_what_was_joined(x: Tensor, m: Any) -> Tensor:
    b, t, _ = x.shape
    joined = m.conv(torch.cat([m.q(x), m.k(x), m.v(x)], -1).transpose(1, 2)).transpose(1, 2)
    q, k, v = (part.view(b, t, 4, -1) for part in joined.chunk(3, -1))
    return (q * k.softmax(-1) + v).flatten(2)


def neighbourhoods(x: Tensor, m: Any) -> Tensor:
    b, c, h, w = x.shape
    return F.unfold(x, 3, padding=1).view(b, 4, c // 4, 9, h, w).mean(3).reshape(b, c, h, w)


def two_channels_per_group(x: Tensor, m: Any) -> Tensor:
    return m.up(m.wide(m.gate(torch.cat([x, x.relu()], 1))))


def experts(x: Tensor, m: Any) -> Tensor:
    b, c, h, w = x.shape
    kernel = torch.matmul(m.route(x.mean((2, 3))).softmax(1), m.bank.view(4, -1)).view(b * c, c, 1, 1)
    return F.conv2d(x.reshape(1, b * c, h, w), kernel, groups=b).view(b, c, h, w)


def learned_queries(x: Tensor, m: Any) -> Tensor:
    q = m.q(m.queries.repeat(x.size(0), 1, 1))
    return (q @ m.k(x).transpose(1, 2)).softmax(-1) @ m.v(x)


def a_channel_for_its_shape(x: Tensor, m: Any) -> Tensor:
    return m.mix(torch.cat([torch.ones_like(x[:, :1]) * 0.5, m.norm(x)], 1))


def one_channel_per_group(x: Tensor, m: Any) -> Tensor:
    return m.norm(m.conv(x))


def pooled_tokens(x: Tensor, m: Any) -> Tensor:
    images = F.avg_pool2d(x[:, None], (2, 1), (2, 1))[:, 0], F.max_pool2d(x[:, None], (2, 1), (2, 1))[:, 0]
    return torch.cat([*images, F.adaptive_avg_pool2d(x, (1, None))], 1)[:, (2, 1, 0)] + x[:, range(3)]


def written_by_mask(x: Tensor, m: Any) -> Tensor:
    h, late = m.linear(x), (torch.arange(x.shape[1], device=x.device) > 2)[None].repeat(x.shape[0], 1)
    h[~late] = 0
    h[late] = m.token
    h[h < -1] = -1
    return h


def tables_of_the_code(x: Tensor, m: Any) -> Tensor:
    frequencies = torch.exp(torch.arange(0, _H, 2, device=x.device) * -0.3)
    angles = torch.arange(x.shape[1], device=x.device)[:, None] * frequencies
    return x + torch.stack([angles.sin(), angles.cos()], -1).flatten(1) + _TABLE


_TABLE = torch.randn(6, _H, generator=torch.Generator().manual_seed(0))


def rotary_of_images(x: Tensor, m: Any) -> Tensor:
    b, t, c = x.shape
    q = m.q(x).view(b, t, 4, c // 4).transpose(1, 2)
    places = torch.stack(torch.meshgrid(torch.arange(2.0), torch.arange(3.0), indexing="ij"), -1).flatten(0, 1)
    angles = (places[:, :, None] * m.inverse[None, None]).flatten(1, 2).tile(2)
    half = q.shape[-1] // 2
    turned = q * angles.cos() + torch.cat([-q[..., half:], q[..., :half]], -1) * angles.sin()
    return turned.transpose(1, 2).reshape(b, t, c)


def gated_by_tokens(x: Tensor, m: Any) -> Tensor:
    u, v = m.wide(x).chunk(2, -1)
    return u * m.tokens(v)


def matrices_of_each_sample(x: Tensor, m: Any) -> Tensor:
    turn = m.make(x.mean(1)) + torch.eye(_H, device=x.device).view(1, -1).repeat(x.size(0), 1)
    return m.out(torch.bmm(x, turn.view(-1, _H, _H)))


def one_map_for_every_channel(x: Tensor, m: Any) -> Tensor:
    gate = x.mean(1, keepdim=True)
    return x + torch.cat([gate] * _H, 1)


def heads_in_the_weights(x: Tensor, m: Any) -> Tensor:
    q, k, v = (torch.einsum("bnd,dhk->bhnk", x, weight) for weight in m.qkv)
    return torch.einsum("bhnk,hkd->bnd", F.scaled_dot_product_attention(q, k, v), m.out)


def noisy(x: Tensor, m: Any) -> Tensor:
    return F.linear(x, m.mean + m.spread * 0.1 if m.training else m.mean)


def _vector() -> Tensor:
    return torch.randn(4, 16)


def _tokens() -> Tensor:
    return torch.randn(4, 6, 16)


def _image() -> Tensor:
    return torch.randn(2, 3, 8, 8)


def _graph() -> tuple[Tensor, Tensor]:
    return torch.randn(10, 16), torch.randint(0, 10, (2, 30))


CASES: dict[str, Case] = {
    "fourier": Case(lambda: Around(fourier, True, filter=_parameter(_H, 8, 5, 2)), _image, 0.55),
    "fourier_of_tokens": Case(lambda: Around(fourier_of_tokens, False), _tokens, 0.55),
    "rotary": Case(lambda: Around(rotary, False, inverse=torch.rand(_H // 4)), _tokens, 0.55),
    "messages": Case(lambda: Around(messages, False, linear=nn.Linear(2 * _H, _H), gate=nn.Linear(_H, 1)), _graph, 0.4),
    "shifted": Case(lambda: Around(shifted, True), _image, 0.55),
    "written_through_views": Case(lambda: Around(written_through_views, True), _image, 0.55),
    "sinusoids": Case(lambda: Around(sinusoids, False), _tokens, 0.55),
    "weights_of_each_sample": Case(lambda: Around(weights_of_each_sample, True, make=nn.Linear(_H, _H * _H)), _image, 0.2),
    "kernel_of_each_channel": Case(
        lambda: Around(kernel_of_each_channel, True, make=nn.Linear(_H, _H * 9), blur=torch.rand(3, 3)), _image, 0.35
    ),
    "centres": Case(lambda: Around(centres, False, centres=_parameter(16, _H), out=nn.Linear(16, _H)), _tokens, 0.45),
    "tensor_products": Case(
        lambda: Around(
            tensor_products,
            False,
            first=_parameter(_H, 4, 8),
            last=_parameter(4, 8, _H),
            u=_parameter(_H),
            v=_parameter(_H),
            bilinear=nn.Bilinear(_H, _H, _H),
        ),
        _tokens,
        0.2,
    ),
    "sampled": Case(lambda: Around(sampled, True, where=nn.Linear(_H, 6)), _image, 0.55),
    "joined": Case(lambda: Around(joined, False, linear=nn.Linear(_H, _H)), _tokens, 0.4),
    "scripted": Case(lambda: Around(scripted, False, bias=_parameter(_H)), _vector, 0.55),
    "blurred": Case(lambda: Around(blurred, True, kernel=torch.rand(1, 1, 2, 2)), _image, 0.55),
    "unusual_names": Case(lambda: Around(unusual_names, False), _vector, 0.55),
    "gathered": Case(lambda: Around(gathered, False, order=torch.randperm(6), mask=_parameter(1, 1, _H)), _tokens, 0.55),
    "attention_unlike_in_training": Case(
        lambda: Around(attention_unlike_in_training, False, qkv=nn.Linear(_H, 3 * _H), out=nn.Linear(_H, _H)), _tokens, 0.32
    ),
    "heads_of_what_was_joined": Case(
        lambda: Around(
            heads_of_what_was_joined,
            False,
            q=nn.Linear(_H, _H),
            k=nn.Linear(_H, _H),
            v=nn.Linear(_H, _H),
            conv=nn.Conv1d(3 * _H, 3 * _H, 3, padding=1, groups=3 * _H),
        ),
        _tokens,
        0.35,
    ),
    "neighbourhoods": Case(lambda: Around(neighbourhoods, True), _image, 0.55),
    "two_channels_per_group": Case(
        lambda: Around(
            two_channels_per_group,
            True,
            gate=nn.Conv2d(2 * _H, _H, 1, groups=_H),
            wide=nn.Conv2d(_H, 4 * _H, 1, groups=_H),
            up=nn.ConvTranspose2d(4 * _H, _H, 2, stride=2, groups=_H),
        ),
        _image,
        0.55,
    ),
    "experts": Case(lambda: Around(experts, True, bank=_parameter(4, _H, _H, 1, 1), route=nn.Linear(_H, 4)), _image, 0.35),
    "learned_queries": Case(
        lambda: Around(learned_queries, False, queries=_parameter(1, 4, _H), q=nn.Linear(_H, _H), k=nn.Linear(_H, _H), v=nn.Linear(_H, _H)),
        _tokens,
        0.32,
    ),
    "a_channel_for_its_shape": Case(
        lambda: Around(a_channel_for_its_shape, True, norm=nn.GroupNorm(8, _H), mix=nn.Conv2d(_H + 1, _H, 1)), _image, 0.45
    ),
    "one_channel_per_group": Case(
        lambda: Around(one_channel_per_group, True, conv=nn.Conv2d(_H, _H, 1), norm=nn.GroupNorm(_H, _H)), _image, 0.45
    ),
    "pooled_tokens": Case(lambda: Around(pooled_tokens, False), _tokens, 0.55),
    "written_by_mask": Case(lambda: Around(written_by_mask, False, linear=nn.Linear(_H, _H), token=_parameter(_H)), _tokens, 0.4),
    "tables_of_the_code": Case(lambda: Around(tables_of_the_code, False), _tokens, 0.55),
    "rotary_of_images": Case(lambda: Around(rotary_of_images, False, q=nn.Linear(_H, _H), inverse=torch.rand(_H // 16)), _tokens, 0.4),
    "gated_by_tokens": Case(lambda: Around(gated_by_tokens, False, wide=nn.Linear(_H, 2 * _H), tokens=nn.Conv1d(6, 6, 1)), _tokens, 0.4),
    "matrices_of_each_sample": Case(
        lambda: Around(matrices_of_each_sample, False, make=nn.Linear(_H, _H * _H), out=nn.Linear(_H, _H)), _tokens, 0.2
    ),
    "one_map_for_every_channel": Case(lambda: Around(one_map_for_every_channel, True), _image, 0.55),
    "heads_in_the_weights": Case(
        lambda: Around(heads_in_the_weights, False, qkv=_parameter(3, _H, 4, 8), out=_parameter(4, 8, _H)), _tokens, 0.32
    ),
    "noisy": Case(lambda: Around(noisy, False, mean=_parameter(_H, _H), spread=_parameter(_H, _H)), _vector, 0.35),
    "normalised_weights": Case(
        lambda: Around(normalised_weights, False, skew=_parameter(_H, _H), normed=nn.utils.parametrizations.weight_norm(nn.Linear(_H, _H))),
        _vector,
        0.4,
    ),
}
