"""``ditto-zynq profile``, ``compare`` and ``explore``: what a model costs, on which accelerator."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..common.words import number_of
from .shared import (
    BACKEND,
    BATCH,
    BOARD,
    HARDWARE,
    MEMORY,
    MODEL,
    OUTPUT_FILE,
    PLOTS,
    SEED,
    WORKERS,
    announce,
    announce_compiling,
    check_plots,
    config_of,
    device_of,
    fleet_of,
    labels_for,
)

if TYPE_CHECKING:
    from ...hls.artefact.model import QuantizedModel
    from ...hls.machine.config import HardwareConfig

MOST_BANDWIDTH = 100_000  # GB/s
SIMILARITY_SAMPLES = 4  # of which operands are looked at in full


@click.command()
@MODEL
@click.option("-o", "--output", type=OUTPUT_FILE, help="Write the full profile as JSON.")
@click.option("--batch", default=4, type=BATCH, show_default=True, help="Samples that advance together.")
@click.option("--labels", help="Class labels to take in turn.")
@click.option("--seed", default=0, type=SEED, show_default=True)
@click.option("--flow", default="difference", show_default=True, help="original, difference, spatial, defo or defo+.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@PLOTS
@BOARD
@HARDWARE
@MEMORY
@BACKEND
def profile(
    model: Path | None,
    output: Path | None,
    batch: int,
    labels: str | None,
    seed: int,
    flow: str,
    as_json: bool,
    plots: Path | None,
    board: str,
    hardware: Path | None,
    memory: int | None,
    backend: str | None,
) -> None:
    """Count digits, cycles and bytes per layer and step of one batch (emulated); with --plots also how alike operands are.

    The batch has the guidance of the calibration, and its prompts in turn.
    """
    from tqdm import tqdm

    from ...hls.artefact.model import load as load_artefact
    from ..common.files import write_text
    from ..runtime.model import BUNDLED_MODEL, Model, check_run
    from ..studies.report import profile_json, summary_text
    from ..studies.similarity import check_differences

    check_plots(plots, output)
    path = BUNDLED_MODEL if model is None else model
    artefact = load_artefact(path)
    device = device_of("emulator", config_of(board, hardware, artefact), True, backend, None)
    loaded = Model(artefact, device, memory_mib=memory)
    check_run(batch, batch, flow, seed)
    if plots is not None:
        check_differences(artefact.graph)
    chosen = loaded.labels_of(batch, labels_for(artefact, labels))
    with tqdm(total=artefact.graph.steps, desc="denoise", unit="step", disable=as_json) as bar:
        record = loaded.denoise_as_calibrated(batch, seed, flow, chosen.tolist(), bar.update).record
    assert record is not None
    data = profile_json(record, device.config)
    if plots is not None:
        from ..studies.plots import draw_classes, draw_profile, draw_similarity, stem
        from ..studies.similarity import measure

        found = measure(artefact, device.config, min(batch, SIMILARITY_SAMPLES), seed, memory)
        data["similarity"] = found.to_json()
        named = stem(plots, [path.resolve().name], [artefact.digest], device.config.board, flow)
        paths = [named("similarity"), named("bit-widths"), *draw_profile(data, named)]
        draw_similarity(found, paths[0])
        draw_classes(found, paths[1])
        announce(f"figures: {', '.join(map(str, paths))}")
    if output is not None:
        write_text(output, json.dumps(data, indent=1) + "\n")
    click.echo(json.dumps(data) if as_json else summary_text(record, device.config, flow, batch), nl=as_json)


@click.command()
@click.argument("models", type=click.Path(path_type=Path), nargs=-1)
@click.option("-o", "--output", type=OUTPUT_FILE, help="Also write the comparison as JSON.")
@click.option("--batch", default=16, type=BATCH, show_default=True, help="Images that advance together.")
@click.option("--seed", default=0, type=SEED, show_default=True)
@click.option("--bandwidths", help="DRAM bandwidths in GB/s to compare at, such as 2,5,10 (default: the board's peak).")
@click.option("--architecture", help="cifar10 or sd15: that U-Net's shapes, with the MODEL's digits (modelled).")
@click.option(
    "--setting", default="board", show_default=True, help="board, or paper: Ditto's PE counts at 1 GHz (modelled)."
)
@click.option(
    "--gains",
    "with_gains",
    is_flag=True,
    help="Also what the MODELS after the first and the designs give alone and together.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@PLOTS
@BOARD
@HARDWARE
@MEMORY
def compare(
    models: tuple[Path, ...],
    output: Path | None,
    batch: int,
    seed: int,
    bandwidths: str | None,
    architecture: str | None,
    setting: str,
    with_gains: bool,
    as_json: bool,
    plots: Path | None,
    board: str,
    hardware: Path | None,
    memory: int | None,
) -> None:
    """Compare accelerators on MODELS of one schedule: dense int8 arrays, Cambricon-D, Diffy and Ditto, at equal resources."""
    from ...hls.artefact.model import load as load_artefact
    from ..common.files import write_text
    from ..runtime.model import BUNDLED_MODEL
    from ..studies import compare as comparison
    from ..studies import gains

    check_plots(plots, output)
    artefacts = {str(path): load_artefact(path) for path in models or (BUNDLED_MODEL,)}
    comparison.check_schedules(artefacts)
    chosen = None if bandwidths is None else _bandwidths(bandwidths)
    configs = {name: config_of(board, hardware, artefact) for name, artefact in artefacts.items()}
    compared = _Compared(artefacts, configs, chosen, batch, seed, memory)
    if setting not in ("board", "paper"):
        raise ValueError(f"found setting {setting!r}, expected board or paper")
    if setting == "paper" and (architecture is not None or plots is not None):
        raise ValueError("found --setting paper with --architecture or --plots, expected them with --setting board")
    if with_gains and (len(artefacts) < 2 or setting == "paper"):
        raise ValueError(f"found --gains with {number_of(len(artefacts), 'model')}, expected two or more, on a board")
    announce_compiling()
    if setting == "paper":
        results, text = _compare_as_paper(compared)
    else:
        if chosen is not None and len(artefacts) > 1:
            raise ValueError(f"found --bandwidths with {len(artefacts)} models, expected one model to sweep")
        results = list(_compare_on_board(compared, architecture))
        tables = "\n".join(comparison.table(result) for result in results)
        text = tables if chosen is None else comparison.sweep_table(results)
        if with_gains:
            text += "\n" + gains.table(results)
        if plots is not None:
            _draw_comparison(results, chosen is not None, plots)
    data: Any = results[0] if len(results) == 1 else results
    if output is not None:
        write_text(output, json.dumps(data, indent=1) + "\n")
    click.echo(json.dumps(data) if as_json else text, nl=as_json)


@dataclass(frozen=True)
class _Compared:
    """Models, by their paths as they were given, and the configuration that each is compared on; at which ``bandwidths`` in GB/s
    (None: the boards' own), and with which images."""

    artefacts: dict[str, QuantizedModel]
    configs: dict[str, HardwareConfig]
    bandwidths: list[float] | None
    batch: int
    seed: int
    memory_mib: int | None


def _compare_on_board(compared: _Compared, architecture: str | None) -> Iterator[dict[str, Any]]:
    from ..studies import compare as comparison

    bandwidths = compared.bandwidths
    swept = {  # all of them are valid before the first one runs
        name: [config] if bandwidths is None else [replace(config, dram_gb_per_s=gb) for gb in bandwidths]
        for name, config in compared.configs.items()
    }
    for name, artefact in compared.artefacts.items():
        for config in swept[name]:
            options = (config, compared.batch, compared.seed, announce, compared.memory_mib)
            if architecture is not None:
                result = comparison.compare_architecture(architecture, artefact, *options)
            else:
                result = comparison.compare(artefact, *options)
            yield {"model": _short(name, compared.artefacts), "digest": artefact.digest, **result}


def _compare_as_paper(compared: _Compared) -> tuple[list[dict[str, Any]], str]:
    from ..studies import paper_setting
    from ..studies.similarity import measure

    results, texts = [], []
    artefacts, batch = compared.artefacts, compared.batch
    for artefact in artefacts.values():
        paper_setting.check_on_chip(artefact, batch)
    for name, artefact in artefacts.items():
        announce(f"similarity of operands over {number_of(artefact.graph.steps, 'step')}")
        samples = min(batch, SIMILARITY_SAMPLES)
        similarity = measure(artefact, compared.configs[name], samples, compared.seed, compared.memory_mib)
        found = [
            {
                "model": _short(name, compared.artefacts),
                **paper_setting.compare(artefact, similarity, gb, on_chip, batch),
            }
            for on_chip in (True, False)
            for gb in compared.bandwidths or paper_setting.BANDWIDTHS
        ]
        texts.append(paper_setting.table(found))
        results += found
    return results, "\n".join(texts)


def _short(name: str, others: Collection[str]) -> str:
    """The name of a model's folder, with its path where several are called so."""
    found = Path(name).resolve().name
    return found if sum(Path(other).resolve().name == found for other in others) == 1 else name


def _draw_comparison(results: list[dict[str, Any]], is_sweep: bool, folder: Path) -> None:
    from ..studies import plots

    subjects = dict.fromkeys(plots.subject(result) for result in results)
    digests = dict.fromkeys(str(result["digest"]) for result in results)
    name = plots.stem(folder, list(subjects), list(digests), results[0]["configuration"]["board"])
    path = name("sweep" if is_sweep else "designs")
    (plots.draw_sweep if is_sweep else plots.draw_designs)(results, path)
    announce(f"figure: {path}")


def _bandwidths(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < value <= MOST_BANDWIDTH for value in found):
        raise ValueError(
            f"found bandwidths {text!r}, expected GB/s above 0, and at most {MOST_BANDWIDTH:,}, such as 2,5,10"
        )
    return found


@click.command()
@MODEL
@click.option(
    "--vary",
    multiple=True,
    help="A field and its values, such as cores=4,6,8; also lanes, oc_tile, channel_groups, dram_gb_per_s. May be repeated.",
)
@click.option("-o", "--output", type=OUTPUT_FILE, help="Also write all comparisons as JSON.")
@click.option("--batch", default=16, type=BATCH, show_default=True, help="Images that advance together.")
@click.option("--workers", type=WORKERS, help="Compare on that many local processes (Dask).")
@click.option("--cluster", help="Compare on the workers of this Dask scheduler.")
@BOARD
@HARDWARE
def explore(
    model: Path | None,
    vary: tuple[str, ...],
    output: Path | None,
    batch: int,
    workers: int | None,
    cluster: str | None,
    board: str,
    hardware: Path | None,
) -> None:
    """Compare configurations of a board that differ in the fields to --vary: time, resources, and which are worth having."""
    from ...hls.artefact.model import load as load_artefact
    from ..common.files import write_text
    from ..runtime.model import BUNDLED_MODEL
    from ..studies import explore as exploration

    path = (model or BUNDLED_MODEL).resolve()
    choices = _all_choices(vary or ("cores=2,4,6,8",))
    artefact = load_artefact(path)
    configs, refused = exploration.candidates(config_of(board, hardware, artefact), choices)
    announce_compiling()
    if workers is None and cluster is None:
        found = _compare_here(artefact, configs, batch)
    else:
        with fleet_of(workers, cluster) as address:
            found = _compare_on_fleet(path, configs, batch, address)
    rows = exploration.summary(found)
    if output is not None:
        write_text(output, json.dumps({"rows": rows, "refused": refused, "comparisons": found}, indent=1) + "\n")
    click.echo(exploration.table(rows, refused), nl=False)


def _compare_here(artefact: QuantizedModel, configs: list[HardwareConfig], batch: int) -> list[dict[str, Any]]:
    from tqdm import tqdm

    from ..studies import compare as comparison

    with tqdm(configs, unit="configuration") as each:  # closed before an error's line
        return [comparison.compare(artefact, config, batch) for config in each]


def _compare_on_fleet(model: Path, configs: list[HardwareConfig], batch: int, address: str) -> list[dict[str, Any]]:
    from distributed import Client

    from ..studies import explore as exploration

    with Client(address) as client:
        return exploration.explore(client, configs, batch, model)


def _all_choices(texts: tuple[str, ...]) -> dict[str, list[Any]]:
    """Values to vary, by field. ValueError for a field that is given twice: only the last values of it would count."""
    pairs = [_choices(text) for text in texts]
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"found --vary {twice} more than once, expected all of its values in one, such as {twice}=4,6,8"
        )
    return {name: list(dict.fromkeys(values)) for name, values in pairs}


def _choices(text: str) -> tuple[str, list[Any]]:
    """A field and its values: ("cores", [4, 8]) of ``"cores=4,8"``. ValueError for other text."""
    name, _, values = text.partition("=")
    try:
        return name, [float(value) if "." in value else int(value) for value in values.split(",")]
    except ValueError:
        raise ValueError(f"found {text!r} to vary, expected a field and numbers such as cores=4,6,8") from None
