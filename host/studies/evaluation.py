"""Quality of a quantized pipeline beside the float one. Needs the quantizer's packages, which it finds by name."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...hls.artefact.model import INDEX, QuantizedModel, null_label, sha256_of
from ...hls.artefact.model import load as load_artefact
from ...hls.common.notices import PrecisionWarning
from ...hls.common.schema import show
from ...hls.machine.config import HardwareConfig
from ..common.files import write_text
from ..devices.emulator import EmulatorDevice
from ..runtime.output import image_grid, write_picture
from ..runtime.schedulers import check_seed

SIZES = {"sample_size"}  # that may be given when quantizing
UNLIKE_PSNR = 20.0  # dB, below which images are other images
SHOWN_ROWS, SHOWN_WIDTH = 3, 12  # of the pictures in samples.png, the width in images' heights


@dataclass(frozen=True)
class Drawing:
    """A pipeline, and how it draws: the float one of ``folder``, or with ``config`` the quantized one, on the emulator.

    Either takes the scheduler of ``schedule``, a quantized folder with this ``digest``.
    """

    folder: Path
    schedule: Path
    digest: str
    guidance: float
    seed: int
    config: HardwareConfig | None = None
    memory_mib: int | None = None


def draw(drawing: Drawing, requests: Any, indices: Sequence[int]) -> np.ndarray:
    """Images uint8 [B, H, W, 3] of the requests with these indices, drawn by a worker, which keeps its pipeline."""
    return _draw(drawing, *_kept(drawing), requests, indices)


@functools.lru_cache(maxsize=1)
def _kept(drawing: Drawing) -> tuple[Any, QuantizedModel]:
    """A worker keeps the pipeline from batch to batch."""
    artefact = load_artefact(drawing.schedule)
    return _pipeline_of(drawing, artefact), artefact


def _draw(
    drawing: Drawing, pipeline: Any, artefact: QuantizedModel, requests: Any, indices: Sequence[int]
) -> np.ndarray:
    from ..diffusers.drawing import Request
    from ..diffusers.drawing import draw as draw_images

    steps, eta = artefact.quantization["steps"], artefact.quantization["eta"]
    request = Request(requests.prompts, requests.labels, drawing.seed, drawing.guidance)
    images = draw_images(pipeline, request, indices, steps, eta)
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def _pipeline_of(drawing: Drawing, artefact: QuantizedModel) -> Any:
    from diffusers import DiffusionPipeline

    from ..diffusers.drop_in import load_pipeline
    from ..runtime.diffusers_scheduler import load_scheduler

    if drawing.config is None:
        scheduler, float32 = load_scheduler(artefact), import_module("torch").float32
        pipeline = DiffusionPipeline.from_pretrained(
            drawing.folder, scheduler=scheduler, dtype=float32, use_safetensors=True
        )
    else:
        device = EmulatorDevice(drawing.config, counting=False)
        pipeline = load_pipeline(drawing.folder, device, memory_mib=drawing.memory_mib, artefact=artefact)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def evaluate(
    model: Path,
    against: Path,
    reference: str,
    count: int,
    guidance: float | None,
    seed: int,
    batch: int,
    output: Path,
    config: HardwareConfig,
    memory_mib: int | None = None,
    cluster: str | None = None,
    artefact: QuantizedModel | None = None,
) -> dict[str, dict[str, float]]:
    """Draw ``count`` images with both pipelines, by the schedule of the quantized one, and judge them.

    The result is also in ``output/quality.json``, some of the images are in ``output/samples.png``. ``cluster``: address of a
    Dask scheduler whose workers draw; ``artefact``: the model, where it was loaded before. Finished batches in ``output`` are not
    drawn again; ValueError where they are of other settings.
    """
    from ..diffusers.drawing import TORCH_SEED_BITS, guidance_of

    quality = import_module("...quant.judge.evaluate", __package__)
    artefact = load_artefact(model) if artefact is None else artefact
    if count < 2 or batch < 1:
        raise ValueError(
            f"found {count} images in batches of {batch}, expected at least 2 images, and batches of at least 1"
        )
    check_seed(seed, TORCH_SEED_BITS)
    scale = guidance_of(artefact, guidance)
    settings = {"model": artefact.digest, "against": _digest(against), "reference": reference, "count": count}
    settings |= {"guidance": scale, "seed": seed, "batch": batch}
    _check_origin(against, artefact)
    images, available = quality.load_reference(reference)
    known = [label for label in artefact.labels if label != null_label(artefact.config)]
    requests = quality.choose(available, count, artefact.graph.context is not None, known)
    judge = quality.Judge(images)
    output.mkdir(parents=True, exist_ok=True)
    _same_settings(output / "settings.json", settings)
    batch = 1 if len(artefact.graph.sample_shape) == 4 else batch  # clips one by one: a prompt alone is not padded
    exact = Drawing(against.resolve(), model.resolve(), artefact.digest, scale, seed)
    quantized = replace(exact, folder=model.resolve(), config=config, memory_mib=memory_mib)
    drawn, result = {}, {}
    for name, drawing in (("float", exact), ("quantized", quantized)):
        with _drawer(drawing, artefact, requests, cluster) as drawer:
            drawn[name] = quality.sample(drawer, count, batch, output / name, name)
        result[name] = judge.quality(drawn[name], requests.categories)
        result[name] |= quality.published_metrics(drawn[name], images, requests.prompts, output)
    result["quantized"] |= quality.compare_images(drawn["quantized"], drawn["float"])
    _warn_of_unlike(result["quantized"]["PSNR mean"], against)
    write_picture(output / "samples.png", _side_by_side(drawn["float"], drawn["quantized"]))
    write_text(output / "quality.json", json.dumps(settings | result, indent=1) + "\n")
    return result


def _side_by_side(exact: np.ndarray, quantized: np.ndarray) -> np.ndarray:
    """Some of the images uint8 [N, H, W, 3], evenly spread: rows of float ones, each above the quantized model's."""
    count, height, width, _ = exact.shape
    columns = max(min(SHOWN_WIDTH * height // width, count // SHOWN_ROWS), 1)
    shown = np.linspace(0, count - 1, SHOWN_ROWS * columns).astype(int).reshape(SHOWN_ROWS, columns)
    return image_grid(np.concatenate([images[row] for row in shown for images in (exact, quantized)]), columns)


@contextlib.contextmanager
def _drawer(drawing: Drawing, artefact: QuantizedModel, requests: Any, cluster: str | None) -> Iterator[Any]:
    """What draws batches: this process, or the workers of a cluster."""
    if cluster is None:

        def here(batches: Sequence[range]) -> Iterator[tuple[range, np.ndarray]]:
            pipeline = _pipeline_of(drawing, artefact) if batches else None
            for indices in batches:
                yield indices, _draw(drawing, pipeline, artefact, requests, indices)

        yield here
        return
    from distributed import Client

    from ..runtime import fleet

    with Client(cluster) as client:
        yield lambda batches: fleet.shares(client, draw, drawing, requests, batches)


def _digest(folder: Path) -> str:
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".safetensors")]
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder} has no pipeline; give the folder that the model was quantized from")
    return hashlib.sha256(b"".join(bytes.fromhex(sha256_of(path)) for path in files)).hexdigest()[:16]


def _check_origin(against: Path, artefact: QuantizedModel) -> None:
    """ValueError where the denoiser of the float pipeline ``against`` is quantized itself, or has another configuration than the
    one that ``artefact`` was quantized from."""
    for path in (against / part / "config.json" for part in ("unet", "transformer")):
        config = json.loads(path.read_text()) if path.is_file() else {}
        if "quantization_config" in config:
            raise ValueError(
                f"{against} is a quantized model, expected the float pipeline that the model was made from"
            )
        for name in sorted(config.keys() & artefact.config.keys() - SIZES):
            if not name.startswith("_") and config[name] != artefact.config[name]:
                raise ValueError(
                    f"{path}: found {name} {show(config[name])}, expected {show(artefact.config[name])}; give the folder that "
                    "the model was quantized from"
                )


def _warn_of_unlike(psnr: float, against: Path) -> None:
    if psnr < UNLIKE_PSNR:
        warnings.warn(
            f"images of the same noise are {psnr:.1f} dB apart, less alike than rounding explains: was the model quantized from "
            f"{against}?",
            PrecisionWarning,
            stacklevel=3,
        )


def _same_settings(path: Path, settings: dict[str, Any]) -> None:
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise ValueError(
            f"{path.parent} holds images of other settings ({path.name}); choose another --output, or remove it"
        )
    write_text(path, json.dumps(settings, indent=1) + "\n")
