"""Stock pipelines and their quantizations: how tests make, call and compare them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner
from ditto_zynq.host.cli.app import main
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.quantize import Schedule, quantize

from tests.pipelines import save

STEPS = 4
CALLS = {
    "ddpm": {},
    "ddim": {},
    "latent_diffusion": {"batch_size": 2},
    "stable_diffusion": {"prompt": "a painting of a squirrel eating a burger", "guidance_scale": 6.0},
    "dit": {"class_labels": [1, 2], "guidance_scale": 4.0},
    "latte": {"prompt": "a painting", "video_length": 2, "height": 16, "width": 16, "guidance_scale": 5.0},
}
LABELS = {"dit": [1, 2, 1000]}


def quantizations(root: Path) -> Callable[..., tuple[Path, Path]]:
    """What returns the folders of a family's float pipeline and of its quantization, made when they are first asked for."""
    made = {}

    def of(family: str, scheduler: str = "ddim") -> tuple[Path, Path]:
        if (family, scheduler) not in made:
            if not (root / family).exists():
                save(family, root / family)
            out = root / f"{family}-{scheduler}"
            kind = "ddpm" if family == "ddpm" else scheduler
            schedule = Schedule(kind, STEPS, 0.0, 2)
            quantize(root / family, out, schedule, Options(trajectories=4), LABELS.get(family))
            made[family, scheduler] = root / family, out
        return made[family, scheduler]

    return of


def run(pipeline, family: str, steps: int = STEPS, **more):
    pipeline.set_progress_bar_config(disable=True)
    output_type = "pt" if family == "latte" else "np"
    arguments = {**CALLS[family], "output_type": output_type, "num_inference_steps": steps, **more}
    return np.asarray(pipeline(generator=torch.manual_seed(0), **arguments)[0])


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(1 / ((found - expected) ** 2).mean()))
