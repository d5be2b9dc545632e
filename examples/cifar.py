"""The networks of the paper's Table 1 and two small ones, as any user would write them: ordinary modules, nothing of packify.

Each factory takes ``num_classes``; the command line finds them as ``examples/cifar.py:resnet18``. A network's ``input_size`` spares the
command line's user ``--input-size``. Run as a script it trains one of them with the paper's recipe, see `cifar_train.py`:
``python examples/cifar.py resnet18 --data CIFAR10 --download``
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """The 3x3 convolution of every residual block, without bias."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A 1x1 projection where the shape changes, else the identity."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2016)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 convolutions and a shortcut; the output has four times the channels."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """A ResNet for 32x32 images: a 3x3 stride-1 stem and no max-pool; four stages of 64, 128, 256, 512 channels."""

    def __init__(self, block: type[BasicBlock | Bottleneck], depths: tuple[int, ...], num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.input_size = (in_channels, 32, 32)
        self.conv1 = conv3x3(in_channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        stages, width = [], 64
        for index, depth in enumerate(depths):
            blocks = []
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(block(width, 64 << index, stride))
                width = (64 << index) * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.fc(torch.flatten(self.avgpool(out), 1))


class WideBlock(nn.Module):
    """A pre-activation block with dropout between its two convolutions (Zagoruyko and Komodakis, 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float, conv_bias: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=conv_bias)
        self.dropout = nn.Dropout(dropout)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=conv_bias)
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, channels, 1, stride=stride, bias=conv_bias)

    def forward(self, x: Tensor) -> Tensor:
        out = self.dropout(self.conv1(torch.relu(self.bn1(x))))
        out = self.conv2(torch.relu(self.bn2(out)))
        return out + self.shortcut(x)


class WideResNet(nn.Module):
    """Wide ResNet-depth-widen for 32x32 images: three stages of 16, 32, 64 times ``widen`` channels, 8x8 average pooling."""

    def __init__(self, depth: int, widen: int, num_classes: int, in_channels: int, dropout: float, conv_bias: bool) -> None:
        super().__init__()
        self.input_size = (in_channels, 32, 32)
        blocks_per_stage = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=conv_bias)
        stages, width = [], 16
        for index in range(3):
            blocks = []
            for position in range(blocks_per_stage):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(WideBlock(width, (16 << index) * widen, stride, dropout, conv_bias))
                width = (16 << index) * widen
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.bn1 = nn.BatchNorm2d(width)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        out = torch.relu(self.bn1(out))
        return self.fc(torch.flatten(self.avgpool(out), 1))


class LeNet(nn.Module):
    """Two convolutions and three linear layers (LeCun et al., 1998), for 32x32 images."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.input_size = (in_channels, 32, 32)
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.pool(torch.relu(self.conv1(x)))
        out = self.pool(torch.relu(self.conv2(out)))
        out = torch.relu(self.fc1(torch.flatten(out, 1)))
        return self.fc3(torch.relu(self.fc2(out)))


class MLP(nn.Module):
    """Three linear layers on a flat input."""

    def __init__(self, in_features: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.input_size = (in_features,)
        self.fc1 = nn.Linear(in_features, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def resnet18(num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    """ResNet-18 for 3x32x32: 11.17 M parameters with 10 classes."""
    return CifarResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_chans)


def resnet50(num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    """ResNet-50 for 3x32x32: 23.52 M parameters with 10 classes."""
    return CifarResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_chans)


def wide_resnet28_10(num_classes: int = 10, in_chans: int = 3, dropout: float = 0.3, conv_bias: bool = True) -> nn.Module:
    """Wide ResNet 28-10 for 3x32x32: 36.49 M parameters with 10 classes, 36.48 M without biases in its convolutions."""
    return WideResNet(28, 10, num_classes, in_chans, dropout, conv_bias)


def lenet(num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    """LeNet-5 for 3x32x32."""
    return LeNet(num_classes, in_chans)


def mlp(num_classes: int = 10, in_features: int = 3072, hidden: int = 256) -> nn.Module:
    """Three linear layers on a flat input, for CIFAR images flattened or a table of features."""
    return MLP(in_features, hidden, num_classes)


if __name__ == "__main__":
    from cifar_train import main

    main()
