"""What ``generate`` leaves on disk: image grids, arrays, and the finished batches of an interrupted run.

Every file is written under a temporary name and renamed, so that no half-written one is ever left.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .runtime import Model, Record

FORMATS = (".png", ".npz")
MAGNIFICATION = 3
GAP = 2


def check_output(path: Path) -> None:
    """ValueError for an output that could not be written at the end."""
    if path.suffix not in FORMATS:
        raise ValueError(f"found output {path.name!r}, expected a file that ends in {' or '.join(FORMATS)}")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: expected a file in a folder that exists")


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def write_images(path: Path, samples: np.ndarray, labels: np.ndarray) -> None:
    """A grid (.png) or the arrays ``images`` uint8, ``samples`` float64 and ``labels`` (.npz)."""
    from PIL import Image

    from .runtime import to_images

    images = to_images(samples)
    if path.suffix == ".npz":
        write_atomically(path, lambda file: np.savez(file, images=images, samples=samples, labels=labels))
        return
    grid = Image.fromarray(image_grid(images))
    grid = grid.resize((grid.width * MAGNIFICATION, grid.height * MAGNIFICATION), Image.Resampling.NEAREST)
    write_atomically(path, lambda file: grid.save(file, "PNG"))


def image_grid(images: np.ndarray, columns: int = 10) -> np.ndarray:
    """uint8 [N, H, W] or [N, H, W, 3] -> one image, row by row, on white."""
    count, height, width = images.shape[:3]
    columns = min(columns, count)
    rows = -(-count // columns)
    cell_height, cell_width = height + GAP, width + GAP
    grid = np.full((rows * cell_height + GAP, columns * cell_width + GAP, *images.shape[3:]), 255, np.uint8)
    for index, image in enumerate(images):
        y, x = (index // columns) * cell_height + GAP, (index % columns) * cell_width + GAP
        grid[y : y + height, x : x + width] = image
    return grid


@dataclass
class Run:
    """Finished batches of one ``generate`` command, kept beside its output until it is complete."""

    output: Path
    digest: str
    seed: int
    labels: np.ndarray
    batch: int
    flow: str
    done: int = 0

    @property
    def folder(self) -> Path:
        """Named by everything that the samples depend on: another command never finds these batches."""
        identity = json.dumps([self.digest, self.seed, self.labels.tolist(), self.batch])
        name = hashlib.sha256(identity.encode()).hexdigest()[:12]
        return self.output.with_name(f"{self.output.name}.partial-{name}")

    def collect(self, model: Model, progress: bool, record: Record | None) -> np.ndarray:
        """All samples float64 [N, C, H, W]; batches that are on disk already are not computed again."""
        count = len(self.labels)
        parts = [] if record is not None else self._finished(count)  # counters are not kept: a summary starts anew
        self.done = sum(len(part) for part in parts)
        for samples in model.batches(count, self.labels, self.seed, self.batch, self.flow, progress, record, self.done):
            self.folder.mkdir(exist_ok=True)
            path = self.folder / f"{self.done:08d}.npy"
            write_atomically(path, lambda file, samples=samples: np.save(file, samples))  # type: ignore[misc]
            parts.append(samples)
            self.done += len(samples)
        return np.concatenate(parts)

    def _finished(self, count: int) -> list[np.ndarray]:
        parts: list[np.ndarray] = []
        start = 0
        while start < count and (path := self.folder / f"{start:08d}.npy").is_file():
            parts.append(np.load(path, allow_pickle=False))
            start += len(parts[-1])
        return parts

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
