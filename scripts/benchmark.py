"""Measured speed, as ratios against PyTorch float32 on the same machine in the same run. Run by scripts/benchmark.

Each figure is the fastest of several runs, taken in turn with what it is compared with.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from diffusers import UNet2DModel
from ditto_zynq.hls.artefact.model import QuantizedModel, load
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.devices.opening import put_behind_pynq
from ditto_zynq.host.devices.simulated import Run
from ditto_zynq.host.runtime.model import BUNDLED_MODEL, Model
from ditto_zynq.host.runtime.session import DIFFERENCE, ORIGINAL
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.quantize import Schedule, quantize, quantize_denoiser

FLOAT = Path("quant/models/fashion-mnist")


@dataclass(frozen=True)
class Action:
    """What is timed, and what must have run before it each time."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def fastest(runs: int, *actions: Action) -> list[float]:
    """Seconds of each action: the fastest of ``runs``, the actions taking turns so that all see the same machine."""
    seconds = [float("inf")] * len(actions)
    for run in range(runs + 1):
        for index, action in enumerate(actions):
            action.prepare()
            start = time.perf_counter()
            action.run()
            if run:  # the first run warms up
                seconds[index] = min(seconds[index], time.perf_counter() - start)
    return seconds


def step_of(artefact: QuantizedModel, batch: int, sample: np.ndarray, labels: np.ndarray, counting: bool) -> Action:
    """One denoising step on the emulator: without counting, or counting differences to the previous step."""
    session = Model(artefact, EmulatorDevice(HardwareConfig(), counting=counting)).session(batch)
    flow = DIFFERENCE if counting else ORIGINAL
    return Action(
        lambda: session.run_step(sample, 1, labels, flow), prepare=lambda: session.run_step(sample, 0, labels, flow)
    )


def compare(name: str, unet: UNet2DModel, artefact: QuantizedModel, batch: int, runs: int) -> dict[str, object]:
    shape = (batch, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    sample = np.random.default_rng(0).standard_normal(shape)
    labels = np.arange(batch) % artefact.graph.labels
    images = torch.from_numpy(sample).float()
    kwargs = {"class_labels": torch.from_numpy(labels)} if unet.config.num_class_embeds else {}
    channels_last = images.to(memory_format=torch.channels_last)

    def in_float(x: torch.Tensor) -> Action:
        def run() -> None:
            with torch.no_grad():
                unet(x, 500, **kwargs)

        return Action(run)

    actions = (
        in_float(images),
        in_float(channels_last),
        step_of(artefact, batch, sample, labels, counting=False),
        step_of(artefact, batch, sample, labels, counting=True),
    )
    plain, last, off, on = fastest(runs, *actions)
    reference = min(plain, last)
    print(
        f"{name}, batch {batch}, {torch.get_num_threads()} threads: PyTorch float32 {reference * 1e3:.1f} ms, emulator "
        f"{off * 1e3:.1f} ms (ratio {off / reference:.2f}), counting {on * 1e3:.1f} ms ({on / off:.2f} of not counting)",
        flush=True,
    )
    return {
        "batch": batch,
        "float32_ms": plain * 1e3,
        "float32_channels_last_ms": last * 1e3,
        "emulator_ms": off * 1e3,
        "emulator_counting_ms": on * 1e3,
        "emulator_over_float32": off / reference,
        "counting_over_not_counting": on / off,
    }


def cpu() -> dict[str, str]:
    """The CPU's name as Linux has it, and the instructions that PyTorch uses of it (scripts/test --cpu says how to have less)."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    held = os.environ.get("ONEDNN_MAX_CPU_ISA")  # which torch.cpu does not look at
    offered = {"VNNI": torch.cpu._is_vnni_supported(), "AMX": torch.cpu._is_amx_tile_supported()}
    more = [name for name, is_there in offered.items() if is_there] if held is None else [f"oneDNN held to {held}"]
    isa = ", ".join([torch.backends.cpu.get_cpu_capability(), *more])
    return {"cpu": names[0] if names else platform.processor(), "isa": isa}


def cifar10_unet() -> UNet2DModel:
    """The 35.7 M-parameter U-Net of DDPM on CIFAR-10 (Ho et al. 2020), with random weights."""
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        attention_head_dim=None,
    ).eval()


def driver_overhead(artefact: QuantizedModel, batch: int, runs: int, behind_pynq: bool) -> float:
    """The part of a whole denoising run in which the emulated accelerator does not compute: the least of ``runs``."""
    fabric = EmulatorDevice(HardwareConfig(), counting=False)
    execute, computing = fabric.execute, 0.0

    def timed(run: Run) -> None:
        nonlocal computing
        start = time.perf_counter()
        execute(run)
        computing += time.perf_counter() - start

    fabric.execute = timed  # type: ignore[method-assign]
    labels, least = np.arange(batch) % artefact.graph.labels, 1.0
    with Model(artefact, put_behind_pynq(fabric) if behind_pynq else fabric) as model:
        for run in range(runs + 1):
            start, computing = time.perf_counter(), 0.0
            model.denoise(np.arange(batch), labels, 0)
            if run:  # the first run compiles and warms up
                least = min(least, 1 - computing / (time.perf_counter() - start))
    return least


def import_seconds() -> float:
    program = "import time; start = time.perf_counter(); import ditto_zynq.host.runtime.model; print(time.perf_counter() - start)"
    return min(
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout)
        for _ in range(5)
    )


def quantization_seconds() -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        quantize(FLOAT, Path(folder) / "model", Schedule("ddim", 50, 0.0, 50), Options(trajectories=16))
        return time.perf_counter() - start


def help_seconds() -> float:
    command = [str(Path(sys.executable).parent / "ditto-zynq"), "--help"]
    return fastest(5, Action(lambda: subprocess.run(command, capture_output=True, check=True)))[0]


@click.command()
@click.option("--runs", default=7, show_default=True)
@click.option("--quick", is_flag=True, help="Only the bundled model and the command line.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write the figures to this file.")
def main(runs: int, quick: bool, path: Path | None) -> None:
    """Measure; prints ratios (measured on this machine, now)."""
    torch.set_grad_enabled(False)
    backend = EmulatorDevice(HardwareConfig()).backend
    results: dict[str, object] = {"backend": backend, "threads": torch.get_num_threads(), **cpu()}
    print(f"{results['cpu']}, PyTorch for {results['isa']}; integer products: {backend}")
    unet = UNet2DModel.from_pretrained(FLOAT, subfolder="unet", low_cpu_mem_usage=False).eval()
    results["bundled"] = compare("bundled model", unet, load(BUNDLED_MODEL), 16, runs)
    if not quick:
        large = cifar10_unet()
        scheduler = {"num_train_timesteps": 1000, "beta_schedule": "linear"}
        artefact = quantize_denoiser(large, scheduler, Schedule("ddim", 2, 0.0, 1), Options(2, 0.0, False, 0))
        results["cifar10_ddpm"] = compare("CIFAR-10 DDPM (35.7 M parameters)", large, artefact, 8, runs)
        results["quantization_s"] = quantization_seconds()
        print(f"quantization, step-wise, 50 steps, 16 trajectories: {results['quantization_s']:.0f} s")
    for behind_pynq, name in ((False, "the emulator"), (True, "the emulator behind pynq")):
        overhead = driver_overhead(load(BUNDLED_MODEL), 16, runs, behind_pynq)
        results["pynq_driver_overhead" if behind_pynq else "driver_overhead"] = overhead
        print(f"host's part of a denoising run, bundled model, batch 16, {name}: {overhead:.1%}", flush=True)
    results["import_s"] = import_seconds()
    print(f"import of the runtime: {results['import_s']:.2f} s")
    results["help_s"] = help_seconds()
    print(f"ditto-zynq --help: {results['help_s']:.2f} s")
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
