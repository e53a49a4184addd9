"""Classifiers that judge images: a small CNN of Fashion-MNIST's classes, and a layer on MobileNetV2's features for emoji's
categories."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from ...hls.common.files import replacing_file
from .emoji import CATEGORIES
from .fashion_mnist import CLASSES, load_split
from .mobilenet import FEATURES, features_of, load_mobilenet


class Classifier(nn.Module):
    """A small CNN from images [B, 1, 28, 28] in [-1, 1] to logits [B, 10]. Its 128 penultimate features serve the Fréchet
    distance."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(_stage(1, 32) + _stage(32, 64) + _stage(64, 128)), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(128, len(CLASSES))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Penultimate features [B, 128]."""
        return self.body(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, 10]."""
        return self.head(self.features(images))


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def train_classifier(out: Path, epochs: int = 8, batch: int = 128, learning_rate: float = 2e-3, seed: int = 0) -> float:
    """Train :class:`Classifier`, write ``out`` (safetensors, test accuracy in its metadata), and return that accuracy."""
    torch.manual_seed(seed)
    train, test = load_split("train"), load_split("t10k")
    images, labels = as_images(train.images), torch.from_numpy(train.labels.astype(np.int64))
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=1e-2)
    total = epochs * (len(images) // batch)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total)))
    with tqdm(total=total, desc="classifier", unit="step", mininterval=5) as progress:
        for _ in range(epochs):
            for picked in torch.randperm(len(images))[: len(images) // batch * batch].split(batch):
                loss = F.cross_entropy(model(images[picked]), labels[picked], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rate.step()
                progress.update()
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in as_images(test.images).split(500)])
    accuracy = float((predicted.numpy() == test.labels).mean())
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(out) as temporary:
        save_file(model.state_dict(), temporary, {"test_accuracy": f"{accuracy:.4f}"})
    return accuracy


def as_images(images: np.ndarray) -> torch.Tensor:
    """Images float32 [N, 1, 28, 28] in [-1, 1] of pixels uint8 [N, 28, 28]."""
    return torch.from_numpy(images.astype(np.float32)).div(127.5).sub(1).unsqueeze(1)


def train_emoji_classifier(images: np.ndarray, labels: np.ndarray, out: Path, seed: int = 0) -> float:
    """Train a linear layer on MobileNetV2's features that tells emoji's categories apart, write ``out``, and return its accuracy
    on a tenth held out."""
    features = torch.from_numpy(features_of(load_mobilenet(), images)).float()
    targets = torch.from_numpy(labels)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(features), generator=generator)
    held_out, used = order[: len(order) // 10], order[len(order) // 10 :]
    head = nn.Linear(FEATURES, len(CATEGORIES))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.1)
    weights = 1 / torch.bincount(targets[used]).float().sqrt()
    for _ in range(600):
        loss = nn.functional.cross_entropy(head(features[used]), targets[used], weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = float((head(features[held_out]).argmax(dim=1) == targets[held_out]).float().mean())
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(out) as temporary:
        save_file(head.state_dict(), temporary, {"held_out_accuracy": f"{accuracy:.4f}"})
    return accuracy
