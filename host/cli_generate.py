"""``ditto-zynq generate``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_shared import (
    BACKEND,
    BITSTREAMS,
    BOARD,
    COUNT,
    DEVICE,
    HARDWARE,
    MEMORY,
    MODEL,
    OUTPUT_FILE,
    SEED,
    WORKERS,
    announce,
    config_of,
    device_of,
    fleet_of,
    load_model,
    parse_labels,
)

if TYPE_CHECKING:
    import numpy as np

    from ..hls.artefact import QuantizedModel
    from ..hls.config import HardwareConfig
    from .device import Device
    from .output import Run
    from .runtime import Batch, Images


@click.command()
@MODEL
@click.option("-n", "--count", default=16, type=COUNT, show_default=True, help="Images to generate.")
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FILE,
    default=Path("images.png"),
    show_default=True,
    help="A .png file for a grid of all images, or .npz for the arrays.",
)
@click.option("--labels", help="Class labels to take in turn, such as 0-9 or 3,5 (default: all that the model knows).")
@click.option(
    "--prompt", multiple=True, help="What to draw, of a model that takes prompts. May be repeated; taken in turn."
)
@click.option("--guidance", type=float, help="Scale of classifier-free guidance (default: that of the calibration).")
@click.option("--seed", default=0, type=SEED, show_default=True, help="Equal seeds give equal images on every device.")
@click.option("--batch", default=16, type=COUNT, show_default=True, help="Samples that advance together.")
@DEVICE
@BITSTREAMS
@MEMORY
@click.option("--workers", type=WORKERS, help="Denoise on that many local processes (Dask), each with its own device.")
@click.option("--cluster", help="Denoise on the workers of this Dask scheduler, such as tcp://HOST:8786.")
@click.option("--deadline", default=600.0, show_default=True, help="Seconds that a step may take.")
@click.option(
    "--flow",
    help="original: reference zero; difference: previous step; spatial: previous pixel; defo, defo+: each layer's cheapest. "
    "Default: difference, but original on an emulator that counts nothing, where it is fastest. Images are the same.",
)
@click.option("--summary", type=OUTPUT_FILE, help="Also write the cycles of each layer to this file.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@BOARD
@HARDWARE
@BACKEND
def generate(
    model: Path | None,
    count: int,
    output: Path,
    labels: str | None,
    prompt: tuple[str, ...],
    guidance: float | None,
    seed: int,
    batch: int,
    device: str,
    bitstreams: Path | None,
    memory: int | None,
    workers: int | None,
    cluster: str | None,
    deadline: float,
    flow: str | None,
    summary: Path | None,
    quiet: bool,
    board: str,
    hardware: Path | None,
    backend: str | None,
) -> None:
    """Generate images with a quantized MODEL (default: the bundled one).

    Interrupted, it keeps the finished batches beside OUTPUT; the same command goes on from there.
    """
    from ..hls.artefact import load as load_artefact
    from . import output as out
    from .files import write_text
    from .report import summary_text
    from .runtime import BUNDLED_MODEL, PIXEL_PIPELINES, check_drawable, check_run, labels_of, pipeline_class

    out.check_output(output)
    check_run(count, batch, flow, seed)
    if not deadline > 0:
        raise ValueError(f"found a deadline of {deadline:g} s, expected more than 0")
    artefact = load_artefact(BUNDLED_MODEL if model is None else model)
    config, counting = config_of(board, hardware, artefact), summary is not None
    chosen = labels_of(artefact, count, parse_labels(labels))
    kind = None if model is None else pipeline_class(model)
    if model is not None and kind not in PIXEL_PIPELINES:
        if workers is not None or cluster is not None or counting:
            raise ValueError(f"--workers, --cluster and --summary are for models of pixels; this one is of a {kind}")
        opened = device_of(device, config, False, backend, bitstreams)
        _generate_with_pipeline(
            model, artefact, opened, output, chosen, prompt, guidance, seed, batch, flow, deadline, memory, quiet
        )
        return
    if artefact.graph.context is not None:
        raise ValueError(
            f"{model} takes prompts and has no pipeline's other parts; quantize a whole pipeline folder, or put the model into a "
            "pipeline with ditto_zynq.host.diffusers.wrap"
        )
    if prompt or guidance is not None:
        raise ValueError("the model takes no prompts and no guidance; leave them out")
    check_drawable(artefact)
    counted = f"{config.digest} {flow}" if counting else ""
    run = out.Run(output, artefact.digest, seed, chosen, batch, flow, counted=counted, say=announce)
    with _saying_what_is_kept(run):
        if workers is None and cluster is None:
            with load_model(model, device, board, hardware, backend, counting, bitstreams, deadline, memory) as loaded:
                announce(f"device: {loaded.device.name} ({config.board} configuration)")
                images = run.collect(lambda starts: loaded.batches(count, chosen, seed, batch, flow, not quiet, starts))
        else:
            job = {
                "deadline_s": deadline,
                "device": device,
                "seed": seed,
                "flow": flow,
                "counting": counting,
                "backend": backend,
            }
            images = _collect_from_fleet(run, workers, cluster, not quiet, config, model, bitstreams, job)
    out.write_images(output, images.samples, chosen)
    run.discard()
    click.echo(f"{count} images: {output}")
    if summary is not None and images.record is not None:
        write_text(summary, summary_text(images.record, config))
        click.echo(f"cycles of each layer (emulated): {summary}")


def _generate_with_pipeline(
    folder: Path, artefact: QuantizedModel, device: Device, output: Path, labels: np.ndarray, prompts: tuple[str, ...],
    guidance: float | None, seed: int, batch: int, flow: str | None, deadline_s: float, memory_mib: int | None, quiet: bool,
) -> None:  # fmt: skip
    """Of a model whose samples are not its images, as latents are not: diffusers' pipeline makes them."""
    from . import output as out
    from .diffusers import Request, batches, load_pipeline

    takes_prompts, count = artefact.graph.context is not None, len(labels)
    if takes_prompts and not prompts:
        raise ValueError("the model takes prompts; give at least one, such as --prompt 'a red heart'")
    texts = tuple(prompts[index % len(prompts)] for index in range(count)) if prompts else ()
    request = Request(texts, () if takes_prompts else tuple(labels.tolist()), seed, guidance)
    batch = 1 if len(artefact.graph.sample_shape) == 4 else batch  # one clip at a time: its prompt is not padded
    pipeline = load_pipeline(folder, device, flow, deadline_s, memory_mib)
    asked = json.dumps([texts, guidance])
    run = out.Run(output, artefact.digest, seed, labels, batch, flow, asked=asked, say=announce)
    with _saying_what_is_kept(run), contextlib.closing(device):
        images = run.collect(lambda starts: batches(pipeline, request, batch, starts, not quiet))
    out.write_images(output, images.samples, labels)
    run.discard()
    click.echo(f"{count} images: {output}")


@contextlib.contextmanager
def _saying_what_is_kept(run: Run) -> Iterator[None]:
    """Of a run that ends early: in the one line of an interrupt, or before that of an error."""
    try:
        yield
    except BaseException as error:
        kept = f"interrupted: {run.done} of {len(run.labels)} images are kept; run the same command to go on"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(kept) from None
        if run.done:
            announce(kept)
        raise


def _collect_from_fleet(
    run: Run, workers: int | None, cluster: str | None, progress: bool, config: HardwareConfig, model: Path | None,
    bitstreams: Path | None, options: dict[str, Any],
) -> Images:  # fmt: skip
    from distributed import Client
    from tqdm import tqdm

    from . import fleet
    from .runtime import BUNDLED_MODEL

    absolute = None if bitstreams is None else bitstreams.resolve()
    job = fleet.Job(config, (model or BUNDLED_MODEL).resolve(), bitstreams=absolute, **options)
    with fleet_of(workers, cluster) as address, Client(address) as client:
        announce(
            f"workers: {len(client.scheduler_info()['workers'])}, device {job.device} ({config.board} configuration)"
        )
        with tqdm(total=len(run.labels), unit="image", desc="denoise", disable=not progress) as bar:

            def batches(starts: Sequence[int]) -> Iterator[Batch]:
                for batch in fleet.batches(client, job, run.labels, run.batch, starts):
                    bar.update(len(batch.samples))
                    yield batch

            return run.collect(batches)
