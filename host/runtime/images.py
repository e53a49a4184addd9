"""Generated images, the batches that they come in, and which samples are images at all: latents are none."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...hls.artefact.model import INDEX, QuantizedModel
from .record import Record

PIXEL_PIPELINES = (None, "DDPMPipeline", "DDIMPipeline")  # whose images are the denoiser's samples


@dataclass(frozen=True)
class Batch:
    """Samples [first, first + B) float64 [B, ...] that advanced together, and what the device counted, if it counts."""

    first: int
    samples: np.ndarray
    record: Record | None


@dataclass(frozen=True)
class Images:
    """Generated images. ``images`` uint8 [N, H, W] or [N, H, W, 3]; ``samples`` float64 [N, C, H, W] in [-1, 1]; ``labels`` int64
    [N]; ``record``: what the device counted, if it counts."""

    images: np.ndarray
    samples: np.ndarray
    labels: np.ndarray
    record: Record | None = None

    @staticmethod
    def of(batches: Iterable[Batch], labels: np.ndarray) -> Images:
        """All images of a run, put together from its batches in any order."""
        ordered = sorted(batches, key=lambda batch: batch.first)
        samples = np.concatenate([batch.samples for batch in ordered])
        records = [batch.record for batch in ordered if batch.record is not None]
        return Images(to_images(samples), samples, labels, functools.reduce(operator.add, records) if records else None)


def to_images(samples: np.ndarray) -> np.ndarray:
    """Pixels uint8 [N, H, W] (one channel) or [N, H, W, C] of samples float64 [N, C, H, W] in [-1, 1], rounded as diffusers
    does."""
    images = np.rint(np.clip(samples / 2 + 0.5, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return images[..., 0] if images.shape[-1] == 1 else images


def pipeline_class(folder: Path) -> str | None:
    """The diffusers pipeline that a quantized folder is of; None where the denoiser was quantized alone."""
    path = folder / INDEX
    name = json.loads(path.read_text()).get("_class_name") if path.is_file() else None
    return None if name is None else str(name)


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether samples of ``shape`` are images of one or three channels."""
    return len(shape) == 3 and shape[0] in (1, 3)


def check_drawable(artefact: QuantizedModel) -> None:
    """ValueError where samples are no images of one or three channels, as latents are not."""
    if not is_picture(artefact.graph.sample_shape):
        shape = artefact.graph.sample_shape
        raise ValueError(
            f"the model's samples are {'x'.join(map(str, shape))}, no pictures, and the folder holds no VAE to draw them with; "
            "use it in its pipeline through ditto_zynq.host.diffusers.wrap, or quantize the whole pipeline's folder"
        )
