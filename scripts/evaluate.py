"""Quality of the float model and of quantized ones: Fréchet distance, class accuracy, same-seed PSNR. Run by scripts/evaluate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import torch
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.host.common.files import write_atomically, write_text
from ditto_zynq.host.runtime.images import to_images
from ditto_zynq.host.runtime.model import load
from ditto_zynq.host.runtime.schedulers import Scheduler, load_scheduler, standard_normal
from ditto_zynq.host.runtime.session import ORIGINAL
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.judge.quality import Judge, psnr
from ditto_zynq.quant.pipeline.pipelines import load_source
from ditto_zynq.quant.quantize import Schedule, quantize
from ditto_zynq.quant.zoo.fashion_mnist import CLASSES, load_split
from tqdm import tqdm

FLOAT = Path("quant/models/fashion-mnist")


def sample_float(
    unet: torch.nn.Module, scheduler: Scheduler, indices: range, labels: np.ndarray, seed: int
) -> np.ndarray:
    """Samples of the float model with the noise and the scheduler arithmetic of the quantized runs."""
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    sample = np.stack([standard_normal(seed, index, 0, shape) for index in indices])
    classes = torch.from_numpy(labels)
    for step, timestep in enumerate(scheduler.timesteps):
        with torch.no_grad():
            output = unet(torch.from_numpy(sample).float(), int(timestep), class_labels=classes).sample
        noise = None
        if scheduler.needs_noise(step):
            noise = np.stack([standard_normal(seed, index, step + 1, shape) for index in indices])
        sample = scheduler.step(output.double().numpy(), step, sample, noise)
    return sample


def in_batches(folder: Path, count: int, batch: int, make: Callable[[range], np.ndarray]) -> np.ndarray:
    """``make(indices)`` for all of ``count`` samples, each batch from its file where an interrupted evaluation left one."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in tqdm(range(0, count, batch), desc=folder.name, unit="batch"):
        path = folder / f"{first}.npy"
        if not path.is_file():
            samples = make(range(first, min(first + batch, count))).astype(np.float32)
            write_atomically(path, lambda file: np.save(file, samples))  # noqa: B023
        parts.append(np.load(path, allow_pickle=False))
    return np.concatenate(parts)


def fill_from_fleet(cluster: str, model: Path, folder: Path, labels: np.ndarray, seed: int, batch: int) -> None:
    """The files of :func:`in_batches` that are not there yet, by the workers of a Dask scheduler."""
    from distributed import Client
    from ditto_zynq.host.runtime import fleet

    folder.mkdir(parents=True, exist_ok=True)
    job = fleet.Job(HardwareConfig(), model.resolve(), seed=seed, flow=ORIGINAL)
    missing = [first for first in range(0, len(labels), batch) if not (folder / f"{first}.npy").is_file()]
    with fleet.connection(cluster) as address, Client(address) as client:
        for part in tqdm(fleet.batches(client, job, labels, batch, missing), total=len(missing), desc=folder.name):
            samples = part.samples.astype(np.float32)
            write_atomically(folder / f"{part.first}.npy", lambda file: np.save(file, samples))  # noqa: B023


def digest(model: Path) -> str:
    """Identifies the float model by its files."""
    files = [path for path in sorted(model.rglob("*")) if path.suffix in {".json", ".safetensors"}]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def same_settings(out: Path, settings: dict[str, object]) -> None:
    """Refuses to go on in a folder whose samples were made with other settings."""
    path = out / "settings.json"
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise click.ClickException(
            f"{out} holds samples of other settings ({path}): choose another --out, or remove it"
        )
    write_text(path, json.dumps(settings, indent=1) + "\n")


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), default=FLOAT, show_default=True)
@click.option("--samples", default=5000, show_default=True)
@click.option("--groups", default="1,5,10,50", show_default=True, help="Step groups to quantize with.")
@click.option("--scheduler", "kind", default="ddim", show_default=True)
@click.option("--steps", default=50, show_default=True)
@click.option("--seed", default=1234, show_default=True)
@click.option("--batch", default=50, show_default=True)
@click.option("--cluster", help="Generate the quantized models' samples on the workers of this Dask scheduler.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/evaluate"), show_default=True)
def main(
    model: Path, samples: int, groups: str, kind: str, steps: int, seed: int, batch: int, cluster: str | None, out: Path
) -> None:
    """Generate SAMPLES images with the float model and with each quantization of it, and compare. Resumable."""
    out.mkdir(parents=True, exist_ok=True)
    same_settings(
        out, {"model": digest(model), "samples": samples, "steps": [kind, steps], "seed": seed, "batch": batch}
    )
    labels = np.arange(samples) % len(CLASSES)
    judge = Judge(load_split("t10k").images)
    source = load_source(model)
    unet, config = source.denoiser, source.scheduler
    scheduler = load_scheduler(config, kind, steps)
    floats = in_batches(
        out / "float",
        samples,
        batch,
        lambda indices: sample_float(unet, scheduler, indices, labels[indices], seed),
    )
    real = load_split("train")
    results = {
        "training images": asdict(judge.quality(real.images[:samples], real.labels[:samples])),
        "float": asdict(judge.quality(to_images(floats), labels)),
    }
    for count in [int(part) for part in groups.split(",")]:
        folder = out / f"groups-{count}"
        if not (folder / "manifest.json").is_file():
            quantize(model, folder, Schedule(kind, steps, groups=count), Options())
        quantized_model = load(folder)
        if cluster is not None:
            fill_from_fleet(cluster, folder, out / f"samples-{count}", labels, seed, batch)
        quantized = in_batches(
            out / f"samples-{count}",
            samples,
            batch,
            lambda indices: quantized_model.denoise(np.array(indices), labels[indices], seed, ORIGINAL).samples,  # noqa: B023
        )
        decibels = psnr(quantized, floats)
        results[f"{count} groups"] = asdict(judge.quality(to_images(quantized), labels)) | {
            "psnr_mean": float(decibels.mean()),
            "psnr_median": float(np.median(decibels)),
        }
        click.echo(f"{count} groups: {results[f'{count} groups']}")
    click.echo(f"float: {results['float']}\ntraining images: {results['training images']}")
    write_text(out / "quality.json", json.dumps(results, indent=1) + "\n")
    click.echo(f"{out / 'quality.json'} written")


if __name__ == "__main__":
    main()
