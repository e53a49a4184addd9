"""Images of a pipeline, float or with a quantized denoiser, each of which depends on its own seed only. Needs torch and
diffusers."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from ...hls.artefact.model import QuantizedModel
from ...hls.artefact.prompts import check_prompts
from ...hls.common.schema import show
from ..common.arguments import integer, number
from ..runtime.images import Batch
from ..runtime.labels import labels_of
from ..runtime.schedulers import check_seed

NO_GUIDANCE = 1.0
TORCH_SEED_BITS = 32  # of a seed that torch's generator on the CPU looks at


@dataclasses.dataclass(frozen=True)
class Request:
    """What to generate: one image, or clip, for each entry of ``prompts`` or ``labels``, whichever the pipeline takes.

    Image i depends on its prompt or label, ``seed`` and i only. ``guidance`` None is the one that the model was calibrated with.
    """

    prompts: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    seed: int = 0
    guidance: float | None = None

    def __post_init__(self) -> None:
        """TypeError for prompts, labels, seeds and scales that are none; ValueError for a seed or a scale out of range."""
        for name, given in (("prompts", self.prompts), ("labels", self.labels)):
            if isinstance(given, str) or not isinstance(given, Sequence):
                raise TypeError(f"found {name} {show(given)}, expected a tuple of them")
        for prompt in self.prompts:
            if not isinstance(prompt, str):
                raise TypeError(f"found prompt {show(prompt)} ({type(prompt).__name__}), expected text")
        check_seed(self.seed, TORCH_SEED_BITS)
        if self.guidance is not None:
            number("guidance", self.guidance)


def batches(
    pipeline: DiffusionPipeline, request: Request, batch: int, starts: Sequence[int], progress: bool = True
) -> Iterator[Batch]:
    """Draw the images of a request in batches of at most ``batch``, those that begin with the images ``starts``: samples float64
    [B, 3, H, W] in [-1, 1], frames of a clip beside each other.

    ValueError for prompts that are too long, and for what the pipeline does not take.
    """
    artefact = pipeline_model(pipeline).artefact
    batch, seed = integer("a batch of", batch), integer("seed", request.seed)
    _check_request(pipeline, artefact, request)
    count, steps = len(request.prompts) or len(request.labels), artefact.quantization["steps"]
    asked = dataclasses.replace(request, seed=seed, guidance=guidance_of(artefact, request.guidance))
    for start in starts:
        indices = range(start, min(start + batch, count))
        shown = f"{start + 1}" if len(indices) == 1 else f"{start + 1}-{indices[-1] + 1}"
        bar = {"desc": f"denoise {shown} of {count}", "unit": "step", "leave": False}
        pipeline.set_progress_bar_config(disable=not progress, **bar)
        images = draw(pipeline, asked, indices, steps, artefact.quantization["eta"])
        yield Batch(start, np.asarray(images, np.float64) * 2 - 1, None)


def _check_request(pipeline: DiffusionPipeline, artefact: QuantizedModel, request: Request) -> None:
    takes_prompts = artefact.graph.context is not None
    if bool(request.prompts) != takes_prompts:
        raise ValueError(
            "the model takes prompts; give at least one" if takes_prompts else "the model takes no prompts"
        )
    check_prompts(pipeline, request.prompts)
    if request.labels:
        labels_of(artefact, len(request.labels), request.labels)


def draw(
    pipeline: DiffusionPipeline, request: Request, indices: Sequence[int], steps: int, eta: float = 0.0
) -> np.ndarray:
    """Images float [B, 3, H, W] in [0, 1] of a stock pipeline, float or with a quantized denoiser: those of a request with these
    ``indices``, in one batch. Frames of a clip lie beside each other.

    ``guidance`` None is none here; ``eta`` is the noise of DDIM's steps. ValueError for what the pipeline's class does not take.
    """
    generators = [_generator(request.seed, index) for index in indices]
    given: dict[str, Any] = {"num_inference_steps": steps, "generator": generators}
    given |= _taken(pipeline, request, indices, eta)
    config = pipeline_model(pipeline).config
    frames = getattr(config, "video_length", None)
    if not frames:
        return np.asarray(pipeline(output_type="np", **given)[0]).transpose(0, 3, 1, 2)
    size = config.sample_size * pipeline.vae_scale_factor
    given |= {"video_length": frames, "height": size, "width": size, "clean_caption": False}
    clips = pipeline(output_type="pt", **given)[0]  # [B, F, 3, H, W]
    return clips.permute(0, 2, 3, 1, 4).flatten(3).numpy()


def _taken(pipeline: DiffusionPipeline, request: Request, indices: Sequence[int], eta: float) -> dict[str, Any]:
    """What the pipeline's class takes of prompts or labels, guidance and eta. ValueError for what it does not take."""
    kind, takes = type(pipeline).__name__, inspect.signature(type(pipeline).__call__).parameters
    conditional = pipeline_model(pipeline).config.get("num_class_embeds") is not None
    guidance = NO_GUIDANCE if request.guidance is None else request.guidance
    given: dict[str, Any] = {}
    if request.prompts:
        given["prompt"] = [request.prompts[index] for index in indices]
    elif "class_labels" in takes or conditional:
        given["class_labels"] = [request.labels[index] for index in indices]
    else:
        given["batch_size"] = len(indices)
    if guidance != NO_GUIDANCE or "guidance_scale" in takes:
        given["guidance_scale"] = guidance
    if eta:
        given["eta"] = eta
    foreign = [name for name in given if name not in takes]
    if foreign:
        raise ValueError(
            f"{kind} takes no {' and no '.join(foreign)}; put the model into a pipeline that does, with wrap"
        )
    return given


def _generator(seed: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**TORCH_SEED_BITS)


def guidance_of(artefact: QuantizedModel, asked: float | None) -> float:
    """The scale of guidance: what was ``asked`` for, else what the model was calibrated with, else 1, which is none. ValueError
    for one that is not finite."""
    if asked is not None:
        asked = number("guidance", asked)
    calibrated = artefact.quantization.get("guidance")
    return next((scale for scale in (asked, calibrated) if scale is not None), NO_GUIDANCE)


def pipeline_model(pipeline: DiffusionPipeline) -> Any:
    """The denoiser of a pipeline, float or quantized."""
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
