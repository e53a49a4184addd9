"""Small quantized models of every kind, in folders: what mutations start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from ditto_zynq.hls.artefact.model import QuantizedModel, save
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.host.runtime.schedulers import load_scheduler
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.quantize import Schedule, quantize

from tests import pipelines

RANDOM_GRAPHS = (1, 5, 8, 10)  # seeds: with and without a context, constants, windows, gates
SCHEDULER = {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000}


def random_model(seed: int) -> QuantizedModel:
    """A random graph for a DDIM schedule of as many steps as it has; with even seeds some layers have narrow weights."""
    build, graph = random_unet(seed, narrow_weights=seed % 2 == 0)
    scales = {name: np.full(graph.groups, 2.0**-6) for name in graph.tensors}
    timesteps = load_scheduler(SCHEDULER, "ddim", graph.steps).timesteps.tolist()
    quantization = {
        "scheduler": "ddim",
        "timesteps": timesteps,
        "steps": graph.steps,
        "eta": 0.0,
        "labels": list(range(graph.labels)),
    }
    return QuantizedModel(graph, build.tables, scales, {"_class_name": "UNet2DModel"}, SCHEDULER, quantization)


def build_all(folder: Path, unet: QuantizedModel) -> Path:
    """``unet``, a conditional text U-Net, a DiT, a Latte, and random graphs."""
    for seed in RANDOM_GRAPHS:
        save(random_model(seed), folder / f"random-{seed}")
    save(unet, folder / "unet")
    for family, labels in (("stable_diffusion", None), ("dit", [3, 7, 1000]), ("latte", None)):
        source = folder / ".float" / family
        pipelines.save(family, source)
        model = quantize(
            source, folder / ".quantized" / family, Schedule("ddim", 4, 0.0, 2), Options(trajectories=2), labels
        )
        save(model, folder / family)  # without the pipeline's other parts, which would be hashed in every case
    for made in (".float", ".quantized"):
        shutil.rmtree(folder / made)
    return folder
