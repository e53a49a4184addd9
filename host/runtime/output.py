"""What ``generate`` leaves on disk: image grids, arrays, and the finished batches of an interrupted run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.files import check_file, write_atomically
from .images import Batch, Images, to_images
from .record import Record

FORMATS = (".png", ".npz")
MAGNIFICATION = 3
GAP = 2
DIGEST_LENGTH = 12  # of a partial run's name


def check_output(path: Path) -> None:
    """ValueError or OSError for an output that could not be written at the end."""
    if path.suffix not in FORMATS:
        raise ValueError(f"found output {path.name!r}, expected a file that ends in {' or '.join(FORMATS)}")
    check_file(path)
    path.with_name(_partial_name(path, DIGEST_LENGTH * "0")).exists()  # OSError where only this name is too long


def _partial_name(output: Path, digest: str) -> str:
    return f"{output.name}.partial-{digest}"


def write_images(path: Path, samples: np.ndarray, labels: np.ndarray) -> None:
    """Write images of samples float64 [N, C, H, W]: a grid (.png), or the arrays ``images`` uint8, ``samples`` float64 and
    ``labels`` (.npz)."""
    images = to_images(samples)
    if path.suffix == ".npz":
        write_atomically(path, lambda file: np.savez(file, images=images, samples=samples, labels=labels))
        return
    write_picture(path, image_grid(images).repeat(MAGNIFICATION, axis=0).repeat(MAGNIFICATION, axis=1))


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write pixels uint8 [H, W] or [H, W, 3] as PNG, whole or not at all."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    write_atomically(path, lambda file: picture.save(file, "PNG"))


def image_grid(images: np.ndarray, columns: int = 10) -> np.ndarray:
    """One image uint8 of images uint8 [N, H, W] or [N, H, W, 3], row by row, on white."""
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
    asked: str = ""  # what samples depend on besides: prompts and guidance
    counted: str = ""  # what counters depend on besides: configuration and flow; empty where nothing is counted
    say: Callable[[str], object] = lambda text: None
    done: int = 0

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of finished batches, named by everything that the samples depend on: another command never finds them."""
        identity = json.dumps([self.digest, self.seed, self.labels.tolist(), self.batch, self.counted, self.asked])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:DIGEST_LENGTH]
        return self.output.with_name(_partial_name(self.output, digest))

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
        arrays = {"samples": batch.samples}
        if batch.record is not None:
            names, modules = np.array(batch.record.names), np.array(batch.record.modules)
            arrays |= {"counters": batch.record.counters, "names": names, "modules": modules}
        self.folder.mkdir(exist_ok=True)
        try:
            write_atomically(self._path(batch.first), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
        except BaseException:
            with contextlib.suppress(OSError):  # it has other batches
                self.folder.rmdir()
            raise

    def _kept(self) -> dict[int, Batch]:
        """Batches on disk by their first samples; what is damaged is said and left out, so that it is made again."""
        kept = {}
        for start in range(0, len(self.labels), self.batch):
            path = self._path(start)
            if not path.is_file():
                continue
            try:
                kept[start] = self._read(path, start)
            except Exception as error:  # there is no end to what a damaged archive raises
                self.say(f"{path} is damaged ({error}): its images are made again")
        return kept

    def _read(self, path: Path, start: int) -> Batch:
        """ValueError, or what NumPy and the archive raise, for a file that is not as :meth:`_keep` left it."""
        with np.load(path, allow_pickle=False) as arrays:
            samples, record = arrays["samples"], None
            expected = min(self.batch, len(self.labels) - start)
            if samples.dtype != np.float64 or samples.ndim < 3 or len(samples) != expected:
                raise ValueError(f"found samples {samples.dtype} {samples.shape}, expected float64 of {expected}")
            if self.counted:
                names, modules = (tuple(arrays[name].tolist()) for name in ("names", "modules"))
                record = Record(names, modules, arrays["counters"], len(samples))
        return Batch(start, samples, record)

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:08d}.npz"

    def discard(self) -> None:
        """Remove what was kept, after the output is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)
