"""Ditto's figures (HPCA 2025) on a quantized model: measured similarities, emulated cycles and traffic, estimated energy.

Writes one page, its figures and the numbers behind them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from ditto_zynq.hls.artefact.model import QuantizedModel, load
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.host.cli.shared import BATCH, OUTPUT_FOLDER, Polite, announce, announce_compiling, config_of
from ditto_zynq.host.common.words import number_of
from ditto_zynq.host.runtime.model import BUNDLED_MODEL
from ditto_zynq.host.studies import paper_setting, published
from ditto_zynq.host.studies.compare import compare, compare_architecture
from ditto_zynq.host.studies.plots import draw_classes, draw_designs, draw_similarity
from ditto_zynq.host.studies.similarity import Similarity, check_differences, measure


@dataclass(frozen=True)
class Row:
    """One of the paper's numbers, where it has one, and ours; ``kind``: how ours came about; ``why``: what makes them differ."""

    what: str
    paper: published.Published | None
    ours: str
    kind: str
    why: str = ""


GAINS = {  # of the configurations: what fitted before each step
    "zcu104": (
        ("6 cores, whole batches", {"cores": 6, "weight_memory": "uram", "batch_parts": 1}),
        ("8 cores: sums chained in DSP slices, weights in block RAM too", {"batch_parts": 1}),
    ),
    "zcu102": (
        ("5 cores, whole batches", {"cores": 5, "batch_parts": 1}),
        ("8 cores: sums chained in DSP slices", {"batch_parts": 1}),
    ),
}
LAST_GAIN = "halves of a batch in turns on both units"  # the shipped configurations


@dataclass(frozen=True)
class Found:
    """Everything that the page shows; ``dense`` is the statistics of a model of a dense schedule."""

    similarity: Similarity
    comparisons: list[dict[str, Any]]
    single: list[dict[str, Any]]
    architectures: list[dict[str, Any]]
    gains: dict[str, list[tuple[str, dict[str, Any]]]]
    setting: list[dict[str, Any]]
    dense: dict[str, Any] | None
    products_per_result: float


@click.command(cls=Polite, help=__doc__)
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FOLDER,
    default=Path("runs/reproduce-ditto"),
    show_default=True,
    help="Folder of the page.",
)
@click.option("--boards", default="zcu104,zcu102,ultra96v2", show_default=True, help="Boards to compare designs on.")
@click.option(
    "--batch", default=16, type=BATCH, show_default=True, help="Samples of the comparison; similarity takes a quarter."
)
@click.option(
    "--dense", type=click.Path(path_type=Path), help="A model quantized for a dense schedule, for its statistics."
)
@click.option("--sd15", is_flag=True, help="Also Stable Diffusion 1.5's shapes on zcu102 (four minutes more).")
def main(model: Path | None, output: Path, boards: str, batch: int, dense: Path | None, sd15: bool) -> None:
    artefact = load(BUNDLED_MODEL if model is None else model)
    denser = None if dense is None else load(dense)
    for each in (artefact, denser):
        if each is not None:
            check_differences(each.graph)
    configs = [config_of(board, None, artefact) for board in boards.split(",")]
    output.mkdir(parents=True, exist_ok=True)
    announce_compiling()
    found = measure_all(artefact, configs, batch, denser, sd15)
    draw_similarity(found.similarity, output / "similarity.png")
    draw_classes(found.similarity, output / "bit-widths.png")
    draw_designs(found.comparisons, output / "designs.png")
    numbers = {"rows": [asdict(row) for row in rows(found)], **{name: getattr(found, name) for name in NUMBERS}}
    (output / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (output / "README.md").write_text(page(found))
    click.echo(f"{output}/README.md: {len(rows(found))} numbers beside the paper's, 3 figures")


NUMBERS = ("comparisons", "single", "architectures", "gains", "setting", "dense", "products_per_result")


def measure_all(
    artefact: QuantizedModel, configs: list[HardwareConfig], batch: int, dense: QuantizedModel | None, sd15: bool
) -> Found:
    announce(f"similarity of operands over {number_of(artefact.graph.steps, 'step')}")
    similarity = measure(artefact, configs[0], max(batch // 4, 1))
    comparisons, single, architectures, gains = [], [], [], {}
    for config in configs:
        announce(f"designs on {config.board}")
        comparisons.append(compare(artefact, config, batch))
        single.append(compare(artefact, config, 1))
        if config.board in GAINS:
            announce(f"gains on {config.board}")
            variants = [(what, replace(config, **fields)) for what, fields in GAINS[config.board]]
            gains[config.board] = [
                *((what, compare(artefact, each, batch)) for what, each in variants),
                (LAST_GAIN, comparisons[-1]),
            ]
            architectures.append(compare_architecture("cifar10", artefact, config, batch))
    if sd15:
        architectures.append(
            compare_architecture("sd15", artefact, config_of("zcu102", None, artefact), 1, progress=announce)
        )
    setting = [
        paper_setting.compare(artefact, similarity, gb, on_chip, batch)
        for on_chip in (True, False)
        for gb in paper_setting.BANDWIDTHS
    ]
    statistics = None
    if dense is not None:
        announce(f"statistics of {number_of(dense.graph.steps, 'step')}, a dense schedule")
        other = compare(dense, configs[0], max(batch // 4, 1))
        statistics = {"steps": other["steps"], **other["statistics"]}
    graph = artefact.graph
    results = sum(graph.tensors[node.name].size for node in graph.linear_nodes)
    ratio = float(similarity.macs.sum() / results)
    return Found(
        similarity=similarity,
        comparisons=comparisons,
        single=single,
        architectures=architectures,
        gains=gains,
        setting=setting,
        dense=statistics,
        products_per_result=ratio,
    )


def rows(found: Found) -> list[Row]:
    """The paper's numbers (:mod:`ditto_zynq.host.studies.published`), and what was found here for each."""
    similarity, comparisons = found.similarity, found.comparisons
    temporal, spatial, original = (similarity.fractions(source) for source in ("temporal", "spatial", "original"))
    cosine = similarity.cosine["temporal"].mean(axis=0)
    cosines = f"{cosine.mean():.3f} ({cosine.min():.3f})"
    narrower = (similarity.reach["original"] / np.maximum(similarity.reach["temporal"], 1)).mean()
    dense = 1 - similarity.bit_operations("temporal")
    skipping = 1 - similarity.bit_operations("temporal") / similarity.bit_operations("original")
    against_spatial = 1 - similarity.bit_operations("temporal") / similarity.bit_operations("spatial")
    first = comparisons[0]
    designs = {design["name"]: design for design in first["designs"]}
    board, statistics = first["configuration"]["board"], first["statistics"]
    bytes_of = {name: design["dram_bytes_per_image"] for name, design in designs.items()}
    history = "accumulators are kept in 32 bits, operands in 8, both written and read"
    memory_bound = "a small model whose operators the board's memory ports bound, not its multipliers"
    best = max(comparisons, key=_speedup)
    dram_bound = (
        f"{found.products_per_result:.0f} products per result, whose history moves 10 bytes: 4 of an accumulator and 1 of an "
        "operand, read and written; the paper has 192 MB on chip"
    )
    return [
        Row("temporal cosine similarity, mean (least layer)", published.COSINE, cosines, "measured"),
        Row(
            "spatial cosine similarity",
            published.SPATIAL_COSINE,
            f"{similarity.cosine['spatial'].mean():.2f}",
            "measured",
            "28 x 28 images of clothes on a flat background; the first operand of attention too",
        ),
        Row(
            "range of temporal differences, narrower by",
            published.RANGE,
            f"{narrower:.1f}",
            "measured",
            "in codes, mean over layers and steps",
        ),
        Row("temporal differences: zero", published.ZERO, f"{temporal[0]:.1%}", "measured"),
        Row("temporal differences: 4 bits or zero", published.FITS_4_BITS, f"{temporal[:2].sum():.1%}", "measured"),
        Row("spatial differences: zero / 4 bits / more", published.CLASSES_OF_SPATIAL, _three(spatial), "measured"),
        Row("codes themselves: zero / 4 bits / more", published.CLASSES_OF_CODES, _three(original), "measured"),
        Row("bit operations saved against 8 x 8 bits", published.BIT_OPERATIONS_OF_DDPM, f"{dense:.1%}", "measured"),
        Row(
            "the same against codes with zeros and 4 bits skipped",
            published.BIT_OPERATIONS_AGAINST_CODES,
            f"{skipping:.1%}",
            "measured",
        ),
        Row(
            "the same against spatial differences",
            published.BIT_OPERATIONS_AGAINST_SPATIAL,
            f"{against_spatial:.1%}",
            "measured",
        ),
        Row(
            "memory accesses of bare differences",
            published.ACCESSES_OF_DIFFERENCES,
            f"{bytes_of['difference'] / bytes_of['itc']:.2f} x",
            f"counted, {board}",
            history,
        ),
        Row(
            "memory accesses of Ditto",
            published.ACCESSES_OF_DITTO,
            f"{bytes_of['ditto'] / bytes_of['itc']:.2f} x",
            f"counted, {board}",
            history,
        ),
        Row(
            "memory accesses of Ditto+",
            published.ACCESSES_OF_DITTO_PLUS,
            f"{bytes_of['ditto+'] / bytes_of['itc']:.2f} x",
            f"counted, {board}",
            history,
        ),
        Row(
            "layers sent back to reference zero",
            published.DEFO_ORIGINAL,
            f"{statistics['defo_layers_original']:.1%}",
            f"emulated, {board}",
            memory_bound,
        ),
        Row(
            "decisions of Defo that an oracle shares",
            published.DEFO_AGREEMENT,
            f"{statistics['defo_oracle_agreement']:.1%}",
            f"emulated, {board}",
        ),
        Row(
            "speedup over the dense array",
            published.SPEEDUP,
            f"{designs['ditto']['speedup']:.2f}",
            f"emulated, {board}",
            dram_bound,
        ),
        Row(
            "the same on the board where it is largest",
            None,
            f"{_speedup(best):.2f}",
            f"emulated, {best['configuration']['board']}",
        ),
        Row(
            "energy against the dense array",
            published.ENERGY,
            f"{designs['ditto']['energy_uj_per_image']['total'] / designs['itc']['energy_uj_per_image']['total'] - 1:+.1%}",
            f"estimated, {board}",
            "DRAM traffic of the history; the paper has 192 MB on chip",
        ),
    ]


def _speedup(data: dict[str, Any]) -> float:
    return next(design["speedup"] for design in data["designs"] if design["name"] == "ditto")


def _three(fractions: np.ndarray) -> str:
    return " / ".join(f"{100 * value:.0f}" for value in fractions) + " %"


def page(found: Found) -> str:
    similarity, steps = found.similarity, found.comparisons[0]["steps"]
    lines = [
        "# Ditto's numbers and ours",
        "",
        f"{number_of(len(similarity.names), 'linear operator')}, {number_of(steps, 'step')}. The paper's numbers are "
        "averages over its seven models on its own 45 nm accelerator; ours are of one model on FPGA configurations that have not "
        "been built.",
        "",
        "| | paper | ours | ours is | why they differ | the paper's number stands in |",
        "|---|---|---|---|---|---|",
        *(_row_line(row) for row in rows(found)),
        "",
        "![similarity](similarity.png)",
        "![bit widths](bit-widths.png)",
        "![designs](designs.png)",
        "",
        *_dense_lines(found),
        "## Designs on equal resources of a board",
        "",
        "Speedup over the dense array (itc), which gets all the cores that fit without digit queues; ms per image. Cycles are "
        "emulated; of architectures without weights here *modelled*, with the digits of the model above. In brackets also the "
        "speedup of floors: what it would be if nothing but multiplying and DRAM's peak bandwidth took time, in both designs.",
        "",
        *_design_lines(found),
        "",
        "## What each step gained",
        "",
        *_gain_lines(found),
        "",
        "## Ditto's own setting",
        "",
        "```",
        paper_setting.table(found.setting).rstrip(),
        "```",
        "",
        "Not here: accuracy, which is in host/studies/results.md.",
    ]
    return "\n".join(lines) + "\n"


def _row_line(row: Row) -> str:
    paper, where = ("", "") if row.paper is None else (row.paper.text, row.paper.where)
    return f"| {row.what} | {paper} | {row.ours} | {row.kind} | {row.why} | {where} |"


def _dense_lines(found: Found) -> list[str]:
    if found.dense is None:
        return []
    dense, ours = found.dense, found.comparisons[0]["statistics"]
    names = {
        "zero": "zero",
        "fits_4_bits": "4 bits or zero",
        "bops_reduction": "bit operations saved against 8 x 8 bits",
        "defo_oracle_agreement": "decisions of Defo that an oracle shares",
    }
    return [
        f"| differences between steps | {found.comparisons[0]['steps']} steps | {dense['steps']} steps, dense schedule |",
        "|---|---|---|",
        *(f"| {text} | {ours[name]:.1%} | {dense[name]:.1%} |" for name, text in names.items()),
        "",
    ]


def _design_lines(found: Found) -> list[str]:
    names = [design["name"] for design in found.comparisons[0]["designs"]]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    subjects = [*found.comparisons, *found.single, *found.architectures]
    for data in subjects:
        subject = data["architecture"]["name"] if "architecture" in data else "model"
        cells = [_cell(design) for design in data["designs"]]
        lines.append(
            f"| {subject}, {data['configuration']['board']}, {number_of(data['images'], 'image')} | "
            + " | ".join(cells)
            + " |"
        )
    return lines


def _cell(design: dict[str, Any]) -> str:
    return f"{design['speedup']:.2f} ({design['ms_per_image']:,.0f} ms; {design['floor_speedup']:.2f})"


def _gain_lines(found: Found) -> list[str]:
    lines = ["| | itc ms/image | ditto ms/image | speedup |", "|---|---|---|---|"]
    for board, steps in found.gains.items():
        for what, data in steps:
            designs = {design["name"]: design for design in data["designs"]}
            itc, ditto = designs["itc"]["ms_per_image"], designs["ditto"]["ms_per_image"]
            lines.append(f"| {board}: {what} | {itc:.1f} | {ditto:.1f} | {itc / ditto:.2f} |")
    return lines


if __name__ == "__main__":
    main()
