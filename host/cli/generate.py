"""``ditto-zynq generate``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...hls.contract.references import KINDS
from ..common.words import number_of
from .shared import (
    BACKEND,
    BATCH,
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
    labels_for,
    without_loading_bars,
)

if TYPE_CHECKING:
    import numpy as np

    from ...hls.artefact.model import QuantizedModel
    from ...hls.machine.config import HardwareConfig
    from ..devices.device import Device
    from ..runtime.images import Batch, Images
    from ..runtime.output import Run


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
@click.option("--batch", default=16, type=BATCH, show_default=True, help="Samples that advance together.")
@DEVICE
@BITSTREAMS
@MEMORY
@click.option("--workers", type=WORKERS, help="Denoise on that many local processes (Dask), each with its own device.")
@click.option("--cluster", help="Denoise on the workers of this Dask scheduler, such as tcp://HOST:8786.")
@click.option("--deadline", default=600.0, show_default=True, help="Seconds that a step may take.")
@click.option("--check", is_flag=True, help="Read a board's registers back in every step, not only at a run's ends.")
@click.option(
    "--flow",
    help=f"{'; '.join(f'{kind.flow}: {kind.help}' for kind in KINDS.values())}. "
    "Default: difference, but original on an emulator that counts nothing, where it is fastest. Images are the same.",
)
@click.option("--summary", type=OUTPUT_FILE, help="Also write the cycles of each layer to this file.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@BOARD
@HARDWARE
@BACKEND
def generate(**given: Any) -> None:
    """Generate images with a quantized MODEL (default: the bundled one).

    Interrupted, it keeps the finished batches beside OUTPUT; the same command goes on from there.
    """
    from ...hls.artefact.model import load as load_artefact
    from ..common.files import write_text
    from ..runtime import output as out
    from ..runtime.images import PIXEL_PIPELINES, pipeline_class
    from ..runtime.labels import labels_of
    from ..runtime.model import check_run
    from ..runtime.session import DIFFERENCE
    from ..studies.report import summary_text, time_text

    asked = _Asked(**given)
    out.check_output(asked.output)
    if asked.summary is not None and asked.summary.resolve() == asked.output.resolve():
        raise ValueError(f"found {asked.output} for the images and the summary, expected two files")
    check_run(asked.count, asked.batch, asked.flow, asked.seed)
    if not asked.deadline > 0:
        raise ValueError(f"found a deadline of {asked.deadline:g} s, expected more than 0")
    artefact = load_artefact(asked.folder)
    config = config_of(asked.board, asked.hardware, artefact)
    labels = labels_of(artefact, asked.count, labels_for(artefact, asked.labels))
    kind = None if asked.model is None else pipeline_class(asked.model)
    make = _with_runtime if kind in PIXEL_PIPELINES else _with_pipeline
    run, images = make(asked, artefact, config, labels)
    out.write_images(asked.output, images.samples, labels)
    run.discard()
    click.echo(f"{number_of(asked.count, 'image')}: {asked.output}")
    if asked.summary is not None and images.record is not None:
        flow = asked.flow or DIFFERENCE  # as default_flow has it of what counts
        write_text(asked.summary, summary_text(images.record, config, flow, asked.batch))
        took = time_text(images.record, config, flow, asked.batch)
        click.echo(f"{took}; cycles of each layer: {asked.summary}")


@dataclass(frozen=True)
class _Asked:
    """The options of ``generate``, by their names."""

    model: Path | None
    count: int
    output: Path
    labels: str | None
    prompt: tuple[str, ...]
    guidance: float | None
    seed: int
    batch: int
    device: str
    bitstreams: Path | None
    memory: int | None
    workers: int | None
    cluster: str | None
    deadline: float
    check: bool
    flow: str | None
    summary: Path | None
    quiet: bool
    board: str
    hardware: Path | None
    backend: str | None

    @property
    def folder(self) -> Path:
        """The model's folder, the bundled one's by default."""
        from ..runtime.model import BUNDLED_MODEL

        return BUNDLED_MODEL if self.model is None else self.model

    @property
    def is_counting(self) -> bool:
        return self.summary is not None

    @property
    def is_shared(self) -> bool:
        """Whether workers denoise."""
        return self.workers is not None or self.cluster is not None

    def open_device(self, config: HardwareConfig) -> Device:
        return device_of(self.device, config, self.is_counting, self.backend, self.bitstreams, self.check)


def _with_runtime(
    asked: _Asked, artefact: QuantizedModel, config: HardwareConfig, labels: np.ndarray
) -> tuple[Run, Images]:
    """Generate with a model whose samples are its images, by the runtime alone."""
    from ..runtime.images import check_drawable
    from ..runtime.model import Model
    from ..runtime.output import Run

    if artefact.graph.context is not None:
        raise ValueError(
            f"{asked.folder} takes prompts and has no pipeline's other parts; quantize a whole pipeline folder, or put the model "
            "into a pipeline with ditto_zynq.host.diffusers.wrap"
        )
    if asked.prompt or asked.guidance is not None:
        raise ValueError("the model takes no prompts and no guidance; leave them out")
    check_drawable(artefact)
    counted = f"{config.digest} {asked.flow}" if asked.is_counting else ""
    run = Run(asked.output, artefact.digest, asked.seed, labels, asked.batch, counted=counted, say=announce)
    with _saying_what_is_kept(run):
        if asked.is_shared:
            return run, _collect_from_fleet(run, asked, config)
        with Model(artefact, asked.open_device(config), asked.deadline, asked.memory) as model:
            _announce_device(model.device, config)

            def batches(starts: Sequence[int]) -> Iterator[Batch]:
                given = (asked.count, labels, asked.seed, asked.batch)
                return model.batches(*given, flow=asked.flow, progress=not asked.quiet, starts=starts)

            return run, run.collect(batches)


def _with_pipeline(
    asked: _Asked, artefact: QuantizedModel, config: HardwareConfig, labels: np.ndarray
) -> tuple[Run, Images]:
    """Generate with a model whose samples are not its images, as latents are not: diffusers' pipeline makes them."""
    from ..runtime.images import pipeline_class
    from ..runtime.output import Run

    takes_prompts, prompts = artefact.graph.context is not None, asked.prompt
    if asked.is_shared:
        kind = pipeline_class(asked.folder)
        raise ValueError(f"found --workers or --cluster for a {kind}, expected a model of pixels; leave them out")
    if asked.is_counting:
        kind = pipeline_class(asked.folder)
        raise ValueError(
            f"found --summary for a {kind}, expected a model of pixels; count what its denoiser costs with: ditto-zynq profile "
            f"{asked.folder}"
        )
    if takes_prompts and not prompts:
        raise ValueError("the model takes prompts; give at least one, such as --prompt 'a red heart'")
    if prompts and not takes_prompts:
        raise ValueError("the model takes no prompts; leave them out")
    from ..diffusers.drawing import Request, batches, pipeline_model
    from ..diffusers.drop_in import load_pipeline

    texts = tuple(prompts[index % len(prompts)] for index in range(asked.count)) if prompts else ()
    request = Request(texts, () if takes_prompts else tuple(labels.tolist()), asked.seed, asked.guidance)
    batch = 1 if len(artefact.graph.sample_shape) == 4 else asked.batch  # one clip at a time: its prompt is not padded
    conditions = json.dumps([texts, asked.guidance])
    run = Run(asked.output, artefact.digest, asked.seed, labels, batch, asked=conditions, say=announce)
    with _saying_what_is_kept(run), contextlib.closing(asked.open_device(config)) as device:
        _announce_device(device, config)
        with without_loading_bars():
            pipeline = load_pipeline(asked.folder, device, asked.flow, asked.deadline, asked.memory, artefact)
        try:
            return run, run.collect(lambda starts: batches(pipeline, request, batch, starts, not asked.quiet))
        finally:
            pipeline_model(pipeline).model.release()


def _announce_device(device: Device, config: HardwareConfig) -> None:
    announce(f"device: {device.name} ({config.board} configuration)")


@contextlib.contextmanager
def _saying_what_is_kept(run: Run) -> Iterator[None]:
    """Say what is kept of a run that ends early: in the one line of an interrupt, or before that of an error."""
    try:
        yield
    except BaseException as error:
        kept = (
            f"interrupted: {run.done} of {number_of(len(run.labels), 'image')} are kept; run the same command to go on"
        )
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(kept) from None
        if run.done:
            announce(kept)
        raise


def _collect_from_fleet(run: Run, asked: _Asked, config: HardwareConfig) -> Images:
    from distributed import Client
    from tqdm import tqdm

    from ..runtime import fleet

    job = fleet.Job(
        config=config,
        model=asked.folder.resolve(),
        device=asked.device,
        seed=asked.seed,
        flow=asked.flow,
        counting=asked.is_counting,
        backend=asked.backend,
        bitstreams=None if asked.bitstreams is None else asked.bitstreams.resolve(),
        deadline_s=asked.deadline,
        check=asked.check,
        memory_mib=asked.memory,
    )
    with fleet_of(asked.workers, asked.cluster) as address, Client(address) as client:
        announce(
            f"workers: {len(client.scheduler_info()['workers'])}, device {job.device} ({config.board} configuration)"
        )
        with tqdm(total=len(run.labels), unit="image", desc="denoise", disable=asked.quiet) as bar:

            def batches(starts: Sequence[int]) -> Iterator[Batch]:
                for batch in fleet.batches(client, job, run.labels, run.batch, starts):
                    bar.update(len(batch.samples))
                    yield batch

            return run.collect(batches)
