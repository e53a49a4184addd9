"""How good generated Fashion-MNIST images are: Fréchet distance, class accuracy, PSNR.

The Fréchet distance is computed on the features of this project's own classifier, because no Inception network can be shipped:
its values compare with each other and with nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from ..zoo.classifiers import Classifier, as_images

CLASSIFIER = Path(__file__).parents[1] / "models" / "fashion-mnist" / "classifier.safetensors"


@dataclass(frozen=True)
class Quality:
    """How good images are. ``frechet_distance`` to a reference set; ``accuracy``: share of images that the classifier puts into
    their class."""

    samples: int
    frechet_distance: float
    accuracy: float


class Judge:
    """Judges images by a classifier and the statistics of the reference images uint8 [N, 28, 28]."""

    def __init__(self, reference: np.ndarray, classifier: Path = CLASSIFIER):
        self.classifier = Classifier()
        self.classifier.load_state_dict(load_file(classifier))
        self.classifier.eval()
        self.statistics = gaussian(self.features(reference)[0])

    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features float64 [N, 128] of images uint8 [N, 28, 28], and their predicted classes int64 [N]."""
        features, classes = [], []
        with torch.no_grad():
            for part in as_images(images).split(500):
                found = self.classifier.features(part)
                features.append(found.double().numpy())
                classes.append(self.classifier.head(found).argmax(dim=1).numpy())
        return np.concatenate(features), np.concatenate(classes)

    def quality(self, images: np.ndarray, labels: np.ndarray) -> Quality:
        """The quality of images uint8 [N, 28, 28] that were generated for ``labels`` int [N]."""
        features, classes = self.features(images)
        distance = frechet_distance(gaussian(features), self.statistics)
        return Quality(len(images), distance, float((classes == labels).mean()))


def gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean [D] and covariance [D, D] of features [N, D]."""
    return features.mean(axis=0), np.cov(features, rowvar=False)


def frechet_distance(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    """The squared Fréchet (Wasserstein-2) distance of two Gaussians, the FID of Heusel et al. 2017.

    ``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``; the last trace is the sum of the square roots of the eigenvalues of
    ``C_a C_b``, which are real and not negative.
    """
    from scipy.linalg import eigvals

    eigenvalues = np.clip(eigvals(a[1] @ b[1]).real, 0, None)
    return float(((a[0] - b[0]) ** 2).sum() + np.trace(a[1]) + np.trace(b[1]) - 2 * np.sqrt(eigenvalues).sum())


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The peak signal-to-noise ratio in dB per image, of samples [N, ...] in [-1, 1] (clipped to that range)."""
    error = (np.clip(a, -1, 1) - np.clip(b, -1, 1)).reshape(len(a), -1)
    return 10 * np.log10(4 / np.maximum((error**2).mean(axis=1), 1e-12))
