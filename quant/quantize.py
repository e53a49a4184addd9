"""Quantize a diffusers model folder for a schedule: trace, calibrate, lower, save."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

from ..hls.artefact import QuantizedModel, save
from .calibrate import Options, calibrate
from .fine_parts import add_fine_ends
from .lower import lower
from .trace import trace

SCHEDULERS = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}


@dataclass(frozen=True)
class Schedule:
    """What a model is quantized for. ``groups`` step groups have scales of their own; steps are cut into them evenly."""

    scheduler: str = "ddim"
    steps: int = 50
    eta: float = 0.0
    groups: int = 10

    def group_of_step(self) -> list[int]:
        return [step * self.groups // self.steps for step in range(self.steps)]


def check_schedule(schedule: Schedule) -> None:
    """ValueError, in one line, for a schedule that cannot be."""
    if schedule.scheduler not in SCHEDULERS:
        raise ValueError(f"found scheduler {schedule.scheduler!r}, expected one of {', '.join(SCHEDULERS)}")
    if schedule.steps < 1:
        raise ValueError(f"found {schedule.steps} steps, expected at least 1")
    if not 1 <= schedule.groups <= schedule.steps:
        raise ValueError(f"found {schedule.groups} step groups, expected 1 to {schedule.steps} (the number of steps)")
    if schedule.eta and schedule.scheduler != "ddim":
        raise ValueError("eta belongs to the ddim scheduler; leave it out for ddpm")


def quantize(model: str | Path, out: Path, schedule: Schedule, options: Options) -> QuantizedModel:
    """Quantize the U-Net of a diffusers pipeline (folder or hub name) and write the result to ``out``.

    Raises ValueError for an impossible schedule and UnsupportedOperator for a model that cannot be lowered, both before
    any calibration.
    """
    check_schedule(schedule)
    unet, scheduler_config = load_pipeline(model)
    quantized = quantize_unet(unet, scheduler_config, schedule, options)
    save(quantized, out)
    return quantized


def load_pipeline(model: str | Path) -> tuple[UNet2DModel, dict[str, Any]]:
    """U-Net and scheduler configuration of a diffusers folder or hub name; FileNotFoundError where there is none."""
    if Path(model).exists() and not (Path(model) / "unet" / "config.json").is_file():
        raise FileNotFoundError(f"{model} has no unet/config.json; expected a diffusers pipeline folder")
    try:
        unet = UNet2DModel.from_pretrained(model, subfolder="unet", use_safetensors=True, low_cpu_mem_usage=False)
        scheduler_config = DDPMScheduler.load_config(model, subfolder="scheduler")
    except OSError as error:
        raise FileNotFoundError(f"{model} is no diffusers pipeline that can be read here: {error}") from error
    return unet.eval(), {key: value for key, value in scheduler_config.items() if not key.startswith("_")}


def quantize_unet(
    unet: UNet2DModel, scheduler_config: dict[str, Any], schedule: Schedule, options: Options
) -> QuantizedModel:
    """Quantize a model in memory; see :func:`quantize`."""
    check_schedule(schedule)
    scheduler = SCHEDULERS[schedule.scheduler].from_config(scheduler_config)
    scheduler.set_timesteps(schedule.steps)
    timesteps = [int(timestep) for timestep in scheduler.timesteps]
    if len(timesteps) != schedule.steps:
        raise ValueError(f"found {len(timesteps)} timesteps for {schedule.steps} steps; choose another number of steps")
    size = unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    traced = trace(unet, (unet.config.in_channels, height, width), timesteps, schedule.group_of_step())
    calibrated, _ = calibrate(add_fine_ends(traced), _with_eta(scheduler, schedule), options)
    integer = lower(calibrated)
    quantization = {
        "quant_method": "ditto_zynq",
        "scheduler": schedule.scheduler,
        "eta": schedule.eta,
        "timesteps": timesteps,
        "groups": schedule.groups,
        "weight_bits": 8,
        "activation_bits": 8,
        "calibration": asdict(options),
    }
    config = {key: value for key, value in json.loads(unet.to_json_string()).items() if key != "_name_or_path"}
    return QuantizedModel(
        integer.graph, integer.tables, integer.scales, config, json.loads(scheduler.to_json_string()), quantization
    )


def _with_eta(scheduler: DDIMScheduler | DDPMScheduler, schedule: Schedule) -> Any:
    """The scheduler with ``eta`` bound, so that calibration trajectories are the ones that will be run."""
    if not schedule.eta:
        return scheduler
    bound = copy.copy(scheduler)
    step = scheduler.step
    bound.step = lambda output, timestep, sample, generator: step(  # type: ignore[method-assign,assignment]
        output, timestep, sample, eta=schedule.eta, generator=generator
    )
    return bound
