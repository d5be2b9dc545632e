"""Small convolutional networks as users write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 16, 24), nn.Linear(24, 12), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.max_pool2d(torch.tanh(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(9, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 12), nn.GELU(), nn.Linear(12, 3))


class Flat(nn.Module):
    """Flattens images itself, by a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(48, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 48)
        x = torch.relu(self.one(x))
        return self.three(x + self.two(x))


class TimeSeries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv1d(3, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(8, 16, 3, padding=2, dilation=2), nn.BatchNorm1d(16), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        return self.head(torch.cat([x.mean(-1), x.amax(-1)], 1))


class UNet(nn.Module):
    def __init__(self, norm: bool = True) -> None:
        super().__init__()

        def double(inp: int, out: int) -> nn.Sequential:
            layers = [nn.Conv2d(inp, out, 3, padding=1), nn.BatchNorm2d(out) if norm else nn.Identity(), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers, nn.Conv2d(out, out, 3, padding=1), nn.ReLU(inplace=True))

        self.down1, self.down2, self.bottom = double(3, 4), double(4, 8), double(8, 16)
        self.up2, self.up1 = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.dec2, self.dec1 = double(16, 8), double(8, 4)
        self.out = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        low = self.bottom(F.max_pool2d(two, 2))
        low = self.dec2(torch.cat([two, self.up2(low)], dim=1))
        return self.out(self.dec1(torch.cat([one, self.up1(low)], dim=1)))


class UpsampleUNet(nn.Module):
    """Skips of other resolutions: pads by what is missing and interpolates to a size read from a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1, self.enc2 = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 10, 3, padding=1, stride=2)
        self.dec = nn.Conv2d(16, 6, 3, padding=1)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.enc1(x).relu()
        two = F.interpolate(self.enc2(one).relu(), size=one.shape[-2:], mode="bilinear", align_corners=False)
        diff = one.shape[2] - two.shape[2]
        two = F.pad(two, [diff // 2, diff - diff // 2, 0, 0])
        return self.out(self.dec(torch.cat((two, one), 1)).relu())


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4)
        self.conv2, self.bn2 = nn.Conv3d(4, 8, 3, stride=2, padding=1), nn.BatchNorm3d(8)
        self.up = nn.ConvTranspose3d(8, 4, 2, stride=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.bn1(self.conv1(x)))
        x = F.avg_pool3d(F.relu(self.bn2(self.conv2(first))), 2)
        x = self.up(F.interpolate(x, scale_factor=2)) + first
        return self.head(F.adaptive_avg_pool3d(x, 1).flatten(1))


class Norms(nn.Module):
    """Every norm of torch.nn on channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(inp, 8, 3, padding=1) for inp in (3, 8, 8, 8, 8))
        self.norms = nn.ModuleList(
            [
                nn.GroupNorm(2, 8),
                nn.InstanceNorm2d(8, affine=True),
                nn.InstanceNorm2d(8, track_running_stats=True),
                nn.GroupNorm(1, 8),
                nn.BatchNorm2d(8, affine=False),
            ]
        )
        self.last = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)).relu()
        x = self.last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class Activations(nn.Module):
    """Activations with parameters: PReLU with one slope and with one per channel, and a learned scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(3, 6, 3), nn.PReLU()
        self.conv2, self.act2 = nn.Conv2d(6, 6, 3), nn.PReLU(6)
        self.temperature = nn.Parameter(torch.tensor(1.5))
        self.gain = nn.Parameter(torch.ones(1))
        self.fc, self.act3, self.out = nn.Linear(6, 8), nn.PReLU(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act2(self.conv2(self.act1(self.conv1(x)))) * self.gain
        return self.out(self.act3(self.fc(x.mean((2, 3))))) / self.temperature


class Shuffles(nn.Module):
    """Depthwise and grouped convs, a hand-written channel shuffle, squeeze and excitation, pixel (un)shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.multiplied = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(16, 16, 1, groups=2)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.shuffle = nn.PixelShuffle(2)
        self.mid = nn.Conv2d(4, 4, 1)
        self.unshuffle = nn.PixelUnshuffle(2)
        self.out = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.multiplied(self.depthwise(self.stem(x)).relu())
        b, c, h, w = x.size()
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        x = self.grouped(x)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        x = self.unshuffle(self.mid(self.shuffle(x * gate)))
        return self.out(F.channel_shuffle(x, 4)).mean((2, 3))


class StandardisedConv2d(nn.Conv2d):
    """Weight standardisation: the kernel is computed on the fly."""

    def __init__(self, *args: int, **kwargs: int) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        mean = weight.mean(dim=(1, 2, 3), keepdim=True)
        std = weight.std(dim=(1, 2, 3), keepdim=True, unbiased=False) + 1e-5
        return F.conv2d(x, self.gain * (weight - mean) / std, self.bias, self.stride, self.padding, self.dilation, self.groups)


def standardised() -> nn.Module:
    return nn.Sequential(
        StandardisedConv2d(3, 8, 3),
        nn.ReLU(),
        StandardisedConv2d(8, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


class DropPath(nn.Module):
    """Stochastic depth as a function of the batch, and dropout as a function."""

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = rate
        self.stem, self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def drop_path(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask.div_(keep)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.drop_path(self.conv1(x).relu())
        x = x + self.drop_path(self.conv2(x).relu())
        return self.head(F.dropout(x.mean((2, 3)), self.rate, training=self.training))


class Auxiliary(nn.Module):
    """An auxiliary head that exists in training mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.aux, self.head = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.stem(x).relu()
        aux = self.aux(x.mean((2, 3))) if self.training else None
        out = self.head(self.bn(self.conv(x)).relu().mean((2, 3)))
        return out if aux is None else (out, aux)


class Reused(nn.Module):
    """One block called twice and a tied pair of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.encode, self.decode = nn.Linear(8, 6, bias=False), nn.Linear(6, 8, bias=False)
        self.decode.weight = nn.Parameter(self.decode.weight.detach())
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.two.weight = self.one.weight
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.block(self.stem(x))).mean((2, 3))
        x = self.decode(self.encode(x))
        return self.head(self.two(self.one(x).relu()))


def weight_normed() -> nn.Module:
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(
        norm(nn.Conv1d(3, 8, 3)),
        nn.ReLU(),
        norm(nn.Conv1d(8, 8, 3)),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        norm(nn.Linear(8, 4)),
    )


def old_weight_normed() -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        norm = nn.utils.weight_norm
        return nn.Sequential(
            norm(nn.Conv1d(3, 8, 3)), nn.ReLU(), norm(nn.Conv1d(8, 8, 3)), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4)
        )


def spectral_normed() -> nn.Module:
    norm = nn.utils.parametrizations.spectral_norm
    return nn.Sequential(
        norm(nn.Conv2d(3, 8, 3)),
        nn.ReLU(),
        norm(nn.Conv2d(8, 8, 3)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        norm(nn.Linear(8, 4)),
    )


def vgg() -> nn.Module:
    """No norm at all."""
    layers: list[nn.Module] = []
    for inp, out in ((3, 6), (6, 8)):
        layers += [nn.Conv2d(inp, out, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 5))
