"""Quality of the float model and of quantized ones: Fréchet distance, class accuracy, same-seed PSNR. Run by scripts/evaluate."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import torch
from ditto_zynq.host.output import write_atomically, write_text
from ditto_zynq.host.runtime import Model, load, to_images
from ditto_zynq.host.schedulers import Scheduler, load_scheduler, standard_normal
from ditto_zynq.quant.calibrate import Options
from ditto_zynq.quant.fashion_mnist import CLASSES, load_split
from ditto_zynq.quant.quality import Judge, psnr
from ditto_zynq.quant.quantize import Schedule, load_pipeline, quantize
from tqdm import tqdm

FLOAT = Path("quant/models/fashion-mnist")


def sample_float(unet: torch.nn.Module, scheduler: Scheduler, labels: np.ndarray, seed: int, batch: int) -> np.ndarray:
    """Samples of the float model with the noise and the scheduler arithmetic of the quantized runs."""
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    parts = []
    for first in tqdm(range(0, len(labels), batch), desc="float", unit="batch"):
        indices = range(first, min(first + batch, len(labels)))
        sample = np.stack([standard_normal(seed, index, 0, shape) for index in indices])
        classes = torch.from_numpy(labels[first : first + batch])
        for step, timestep in enumerate(scheduler.timesteps):
            with torch.no_grad():
                output = unet(torch.from_numpy(sample).float(), int(timestep), class_labels=classes).sample
            noise = None
            if scheduler.needs_noise(step):
                noise = np.stack([standard_normal(seed, index, step + 1, shape) for index in indices])
            sample = scheduler.step(output.double().numpy(), step, sample, noise)
        parts.append(sample)
    return np.concatenate(parts)


def cached(path: Path, make) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Samples that an earlier, interrupted evaluation has left, or new ones."""
    if path.is_file():
        return np.load(path, allow_pickle=False)
    samples = make()
    write_atomically(path, lambda file: np.save(file, samples.astype(np.float32)))
    return samples


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), default=FLOAT, show_default=True)
@click.option("--samples", default=5000, show_default=True)
@click.option("--groups", default="1,5,10,50", show_default=True, help="Step groups to quantize with.")
@click.option("--scheduler", "kind", default="ddim", show_default=True)
@click.option("--steps", default=50, show_default=True)
@click.option("--seed", default=1234, show_default=True)
@click.option("--batch", default=50, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/evaluate"), show_default=True)
def main(model: Path, samples: int, groups: str, kind: str, steps: int, seed: int, batch: int, out: Path) -> None:
    """Generate SAMPLES images with the float model and with each quantization of it, and compare. Resumable."""
    out.mkdir(parents=True, exist_ok=True)
    labels = np.arange(samples) % len(CLASSES)
    judge = Judge(load_split("t10k").images)
    unet, config = load_pipeline(model)
    scheduler = load_scheduler(config, kind, steps)
    floats = cached(out / "float.npy", lambda: sample_float(unet, scheduler, labels, seed, batch))
    real = load_split("train")
    results = {
        "training images": asdict(judge.quality(real.images[:samples], real.labels[:samples])),
        "float": asdict(judge.quality(to_images(floats), labels)),
    }
    for count in [int(part) for part in groups.split(",")]:
        folder = out / f"groups-{count}"
        if not (folder / "manifest.json").is_file():
            quantize(model, folder, Schedule(kind, steps, groups=count), Options())
        path = out / f"groups-{count}.npy"
        quantized = cached(path, lambda: run_quantized(load(folder), labels, seed, batch))  # noqa: B023
        decibels = psnr(quantized, floats)
        results[f"{count} groups"] = asdict(judge.quality(to_images(quantized), labels)) | {
            "psnr_mean": float(decibels.mean()),
            "psnr_median": float(np.median(decibels)),
        }
        click.echo(f"{count} groups: {results[f'{count} groups']}")
    click.echo(f"float: {results['float']}\ntraining images: {results['training images']}")
    write_text(out / "quality.json", json.dumps(results, indent=1) + "\n")
    click.echo(f"{out / 'quality.json'} written")


def run_quantized(model: Model, labels: np.ndarray, seed: int, batch: int) -> np.ndarray:
    return model.generate(len(labels), list(labels), seed, batch, flow="original").samples


if __name__ == "__main__":
    main()
