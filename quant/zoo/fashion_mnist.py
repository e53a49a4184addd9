"""Fashion-MNIST (Xiao et al., 2017, MIT licence) as Debian's package ``dataset-fashion-mnist`` installs it."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IMAGE_MAGIC, LABEL_MAGIC = 0x803, 0x801


@dataclass(frozen=True)
class Split:
    """One split of the data set: ``images`` uint8 [N, 28, 28]; ``labels`` uint8 [N], indices into :data:`CLASSES`."""

    images: np.ndarray
    labels: np.ndarray


def load_split(name: str, folder: Path = FOLDER) -> Split:
    """Read the ``"train"`` (60,000 images) or ``"t10k"`` (10,000 images) split.

    Raises FileNotFoundError where the data set is not installed, ValueError where a file is not what its name says.
    """
    images = _read_idx(folder / f"{name}-images-idx3-ubyte.gz", IMAGE_MAGIC, header_words=4)
    labels = _read_idx(folder / f"{name}-labels-idx1-ubyte.gz", LABEL_MAGIC, header_words=2)
    if len(images) != len(labels):
        raise ValueError(f"{folder}: found {len(images)} images and {len(labels)} labels, expected as many of each")
    return Split(images, labels)


def _read_idx(path: Path, magic: int, header_words: int) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(f"{path} not found: install the data set with 'apt-get install dataset-fashion-mnist'")
    with gzip.open(path) as file:
        content = file.read()
    header = np.frombuffer(content, ">u4", header_words)
    if header[0] != magic:
        raise ValueError(f"{path}: found magic number {header[0]:#x}, expected {magic:#x}; reinstall the data set")
    return np.frombuffer(content, np.uint8, offset=4 * header_words).reshape(header[1:].tolist())
