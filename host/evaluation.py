"""Quality of a quantized pipeline beside the float one. Needs the quantizer's packages, which it finds by name."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any

from ..hls.artefact import QuantizedModel
from .device import Device
from .output import write_text

NULL_GUIDANCE = 1.0  # none


def evaluate(
    model: Path,
    artefact: QuantizedModel,
    against: Path,
    reference: str,
    count: int,
    guidance: float | None,
    seed: int,
    batch: int,
    output: Path,
    device: Device,
    memory_mib: int | None = None,
) -> dict[str, dict[str, float]]:
    """Draw ``count`` images with both pipelines, by the schedule of the quantized one, and judge them; also in
    ``output/quality.json``. Finished batches in ``output`` are not drawn again; ValueError where they are of other settings."""
    quality = import_module("..quant.evaluate", __package__)
    from diffusers import DiffusionPipeline

    from .diffusers import load_pipeline
    from .runtime import null_label

    if count < 2 or batch < 1:
        raise ValueError(f"found {count} images in batches of {batch}, expected at least 2, and 1")
    scale = guidance or artefact.quantization.get("guidance") or NULL_GUIDANCE
    settings = {"model": artefact.digest, "against": _digest(against), "reference": reference, "count": count}
    settings |= {"guidance": scale, "seed": seed, "batch": batch}
    output.mkdir(parents=True, exist_ok=True)
    _same_settings(output / "settings.json", settings)
    images, available = quality.load_reference(reference)
    known = [label for label in artefact.labels if label != null_label(artefact)]
    requests = quality.choose(available, count, artefact.graph.context is not None, known)
    judge = quality.Judge(images)
    batch = 1 if len(artefact.graph.sample_shape) == 4 else batch
    steps = artefact.quantization["steps"]
    quantized = load_pipeline(model, device, memory_mib=memory_mib)
    exact = DiffusionPipeline.from_pretrained(
        against, scheduler=quantized.scheduler, dtype=import_module("torch").float32
    )
    drawn, result = {}, {}
    for name, pipeline in (("float", exact), ("quantized", quantized)):
        sampler = quality.pipeline_sampler(pipeline, steps, scale, seed)
        drawn[name] = quality.sample(sampler, requests, batch, output / name, name)
        result[name] = judge.quality(drawn[name], requests.categories)
        result[name] |= quality.published_metrics(drawn[name], images, output)
    result["quantized"] |= quality.compare_images(drawn["quantized"], drawn["float"])
    write_text(output / "quality.json", json.dumps(settings | result, indent=1) + "\n")
    return result


def _digest(folder: Path) -> str:
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".safetensors")]
    if not files:
        raise FileNotFoundError(f"{folder} has no pipeline; give the folder that the model was quantized from")
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()[:16]


def _same_settings(path: Path, settings: dict[str, Any]) -> None:
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise ValueError(
            f"{path.parent} holds images of other settings ({path.name}); choose another --output, or remove it"
        )
    write_text(path, json.dumps(settings, indent=1) + "\n")
