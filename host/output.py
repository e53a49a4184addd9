"""What ``generate`` leaves on disk: image grids, arrays, and the finished batches of an interrupted run.

Every file is written under a temporary name and renamed, so that no half-written one is ever left.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from .runtime import Batch, Images, Record, to_images

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
    images = to_images(samples)
    if path.suffix == ".npz":
        write_atomically(path, lambda file: np.savez(file, images=images, samples=samples, labels=labels))
        return
    write_picture(path, image_grid(images).repeat(MAGNIFICATION, axis=0).repeat(MAGNIFICATION, axis=1))


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """uint8 [H, W] or [H, W, 3] as PNG."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    write_atomically(path, lambda file: picture.save(file, "PNG"))


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
    asked: str = ""  # what samples depend on besides: prompts and guidance
    counted: str = ""  # what counters depend on besides: configuration and flow; empty where nothing is counted
    done: int = 0

    @functools.cached_property
    def folder(self) -> Path:
        """Named by everything that the samples depend on: another command never finds these batches."""
        identity = json.dumps([self.digest, self.seed, self.labels.tolist(), self.batch, self.counted, self.asked])
        name = hashlib.sha256(identity.encode()).hexdigest()[:12]
        return self.output.with_name(f"{self.output.name}.partial-{name}")

    def collect(self, batches: Callable[[Sequence[int]], Iterable[Batch]]) -> Images:
        """All images; ``batches`` makes those that begin with the samples it is given, and others are on disk already."""
        kept = self._kept()
        self.done = sum(len(batch.samples) for batch in kept.values())
        missing = [start for start in range(0, len(self.labels), self.batch) if start not in kept]
        for batch in batches(missing) if missing else ():
            self._keep(batch)
            kept[batch.first] = batch
            self.done += len(batch.samples)
        return Images.of(kept.values(), self.labels)

    def _keep(self, batch: Batch) -> None:
        self.folder.mkdir(exist_ok=True)
        arrays = {"samples": batch.samples}
        if batch.record is not None:
            names, modules = np.array(batch.record.names), np.array(batch.record.modules)
            arrays |= {"counters": batch.record.counters, "names": names, "modules": modules}
        write_atomically(self._path(batch.first), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]

    def _kept(self) -> dict[int, Batch]:
        """By their first samples."""
        kept = {}
        for start in range(0, len(self.labels), self.batch):
            if self._path(start).is_file():
                with np.load(self._path(start), allow_pickle=False) as arrays:
                    record = None
                    if "counters" in arrays:
                        names, modules = (tuple(arrays[name].tolist()) for name in ("names", "modules"))
                        record = Record(names, modules, arrays["counters"], len(arrays["samples"]))
                    kept[start] = Batch(start, arrays["samples"], record)
        return kept

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:08d}.npz"

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
