"""Models of full size on the emulator: quantize, compile, run a step and check samples of every operation against the reference.

Without ``--model`` the architecture has random weights: time, memory and exactness do not depend on them, quality would.
Run by scripts/real-scale; every stage is a process of its own, so that its memory is its own too.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

SDA_MINUTES = 2.1  # of an image of 512x512 by Stable Diffusion 1.5, W4A8, on a ZCU102: from the paper
STEPS, BRANCHES = 50, 2
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "num_train_timesteps": 1000,
}
LABELS = [207, 1000]


def build(name: str):  # type: ignore[no-untyped-def]
    """The architecture by its public configuration, with random weights."""
    import torch
    from diffusers import DiTTransformer2DModel, UNet2DConditionModel

    torch.manual_seed(0)
    if name == "sd15":  # the other defaults are Stable Diffusion 1.x's
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
    model = DiTTransformer2DModel(
        num_attention_heads=16,
        attention_head_dim=72,
        in_channels=4,
        out_channels=8,
        num_layers=28,
        sample_size=32,
        patch_size=2,
        num_embeds_ada_norm=1000,
        attention_bias=True,
        activation_fn="gelu-approximate",
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    for name_, parameter in model.named_parameters():  # adaLN-Zero begins with gates of zero
        if "norm1.linear" in name_ and parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def quantize_stage(name: str, model: str | None, folder: Path) -> dict[str, float]:
    """Quantize for two steps, on one trajectory, and time the float forward."""
    import torch
    from ditto_zynq.hls.artefact.model import save
    from ditto_zynq.quant.calibrate.calibration import Options
    from ditto_zynq.quant.pipeline.pipelines import load_source
    from ditto_zynq.quant.quantize import Schedule, quantize_denoiser

    source = load_source(model) if model else None
    denoiser = source.denoiser if source else build(name)
    scheduler = source.scheduler if source else SCHEDULER
    size = denoiser.config.sample_size
    sample = torch.randn(1, 4, size, size)
    text = name == "sd15"
    context = torch.randn(1, 77, 768) if text else None
    given = {"encoder_hidden_states": context} if text else {"class_labels": torch.tensor(LABELS[:1])}
    times = []
    with torch.no_grad():
        for _ in range(3):
            start = time.perf_counter()
            denoiser(sample, timestep=torch.tensor([500]), **given)
            times.append(time.perf_counter() - start)
    start = time.perf_counter()
    contexts = (context, torch.zeros_like(context)) if context is not None else None
    options = Options(trajectories=1, norm=0.0, correct_biases=False, fine=0)
    quantized = quantize_denoiser(
        denoiser,
        scheduler,
        Schedule("ddim", 2, 0.0, 1),
        options,
        labels=None if text else LABELS,
        context=contexts,
        component="unet" if text else "transformer",
    )
    seconds = time.perf_counter() - start
    save(quantized, folder)
    return {"float forward [s]": min(times), "quantize [s]": seconds, "quantize peak [GiB]": peak_gib()}


def run_stage(name: str, folder: Path, board: str) -> dict[str, float]:
    """Load, compile, run the first step; then again with every operation's samples checked, and counted."""
    from ditto_zynq.hls.artefact.model import load
    from ditto_zynq.hls.machine.config import default_config
    from ditto_zynq.hls.machine.isa import Region
    from ditto_zynq.host.devices.emulator import EmulatorDevice
    from ditto_zynq.host.program.compiler import lay_out
    from ditto_zynq.host.program.operations import fitting
    from ditto_zynq.host.runtime.model import Model
    from ditto_zynq.host.runtime.session import ORIGINAL
    from ditto_zynq.host.studies.spot_check import SpotCheck

    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**30
    before, start = peak_gib(), time.perf_counter()
    artefact = load(folder)
    result = {"artefact [GiB]": size, "load [s]": time.perf_counter() - start, "load peak [GiB]": peak_gib() - before}
    config = fitting(default_config(board), artefact.graph)
    device = EmulatorDevice(config, counting=False)
    model = Model(artefact, device, memory_mib=1 << 16)
    session = model.session(1, history=False)
    program = session.program
    sizes = {region.name.lower(): bytes_ / 2**20 for region, bytes_ in program.sizes.items()}
    history = lay_out(artefact.graph, artefact.tables, config, 1)
    sizes["state"] = history.sizes[Region.STATE] / 2**20  # what differences would keep
    result |= {f"{region} [MiB]": sizes[region] for region in ("program", "weights", "activations", "state")}
    random = np.random.default_rng(0)
    sample, rows = random.standard_normal((1, *artefact.graph.sample_shape)), np.zeros(1, np.int64)
    context = None
    if artefact.graph.context is not None:
        context = random.standard_normal((1, *artefact.graph.tensors[artefact.graph.context].shape))
    times = []
    for _ in range(4):  # weights are prepared in the first
        start = time.perf_counter()
        session.run_step(sample, 0, rows, ORIGINAL, context)
        times.append(time.perf_counter() - start)
    result |= {"first step [s]": times[0], "step [s]": min(times[1:])}
    result["step peak [GiB]"] = peak_gib()
    check = SpotCheck(program, artefact.tables, 0, rows)
    device.auditor = lambda index: check(program.operations[index], session.tensor)
    session.run_step(sample, 0, rows, ORIGINAL, context)
    result["results checked against the reference"] = sum(check.checked.values())
    device.auditor, session = None, None
    model.close()
    counting = EmulatorDevice(config, counting=True)
    model = Model(artefact, counting, memory_mib=1 << 16)
    session = model.session(1, history=False)
    session.run_step(sample, 0, rows, ORIGINAL, context)
    cycles = int(session.counters()["cycles"].sum())
    result["step on the board [s]"] = cycles / (config.clock_mhz * 1e6)
    result["image on the board [min]"] = result["step on the board [s]"] * STEPS * BRANCHES / 60
    return result


@click.command()
@click.argument("name", type=click.Choice(["sd15", "dit-xl-2"]))
@click.option("--model", help="A pipeline of that architecture (folder or hub name) for real weights.")
@click.option("--board", default="zcu102", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/real-scale"), show_default=True)
@click.option("--stage", type=click.Choice(["all", "quantize", "run"]), default="all", show_default=True)
def main(name: str, model: str | None, board: str, out: Path, stage: str) -> None:
    """Quantize NAME, run a step of it on the emulator, check it and say what it took."""
    out.mkdir(parents=True, exist_ok=True)
    folder = out / name
    if stage == "quantize":
        print(json.dumps(quantize_stage(name, model, folder)))
    elif stage == "run":
        print(json.dumps(run_stage(name, folder, board)))
    else:
        result = {}
        for each in ("quantize", "run"):
            command = [sys.executable, __file__, name, "--board", board, "--out", str(out), "--stage", each]
            found = subprocess.run(
                [*command, *(["--model", model] if model else [])], stdout=subprocess.PIPE, text=True
            )
            if found.returncode:
                raise click.ClickException(f"stage {each} of {name} failed, see above")
            result |= json.loads(found.stdout.splitlines()[-1])
        for key, value in result.items():
            click.echo(f"{key:45} {value:,.3g}" if value < 1000 else f"{key:45} {value:,.0f}")
        ratio = result["step [s]"] / result["float forward [s]"]
        click.echo(f"emulated step / float32 forward: {ratio:.2f} (measured on this machine)")
        if name == "sd15":
            click.echo(
                f"an image of 512x512, {STEPS} steps, two branches: {result['image on the board [min]']:.1f} min on {board} "
                f"(emulated cycles, W8A8, no history); SDA: {SDA_MINUTES} min (from its paper, W4A8)"
            )
        (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
