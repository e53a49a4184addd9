"""A small residual network on Fashion-MNIST: pruning's evidence apart from diffusion."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .fashion_mnist import CLASSES


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al., CVPR 2016), with a 1 x 1 convolution in it where widths change."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values [B, C, H, W] to [B, C', H', W']."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """``blocks`` residual blocks in each of three stages, from images [B, 1, 28, 28] in [-1, 1] to logits [B, 10]."""

    def __init__(self, blocks: int = 2, widths: tuple[int, int, int] = (16, 32, 64)):
        super().__init__()
        self.conv = nn.Conv2d(1, widths[0], 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        stages, before = [], widths[0]
        for stage, width in enumerate(widths):
            for index in range(blocks):
                stages.append(BasicBlock(before, width, 2 if stage and not index else 1))
                before = width
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(before, len(CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, 10]."""
        x = self.blocks(F.relu(self.norm(self.conv(images))))
        return self.head(x.mean(dim=(2, 3)))
