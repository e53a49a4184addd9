"""Ditto's figures (HPCA 2025) on a quantized model: measured similarities, emulated cycles and traffic, estimated energy.

Writes one page, its figures and the numbers behind them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from ditto_zynq.hls.artefact import load
from ditto_zynq.hls.config import default_config
from ditto_zynq.host.compare import compare
from ditto_zynq.host.plots import draw_classes, draw_designs, draw_similarity
from ditto_zynq.host.runtime import BUNDLED_MODEL
from ditto_zynq.host.similarity import Similarity, measure


@dataclass(frozen=True)
class Row:
    """One of the paper's numbers and ours; ``kind``: how ours came about; ``why``: what makes them differ."""

    what: str
    paper: str
    ours: str
    kind: str
    why: str = ""


@click.command(help=__doc__)
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("runs/reproduce-ditto"), show_default=True
)
@click.option("--boards", default="zcu104,zcu102,ultra96v2", show_default=True, help="Boards to compare designs on.")
@click.option("--batch", default=16, show_default=True, help="Samples of the comparison; similarity takes a quarter.")
def main(model: Path | None, output: Path, boards: str, batch: int) -> None:
    artefact = load(BUNDLED_MODEL if model is None else model)
    configs = [default_config(board) for board in boards.split(",")]
    output.mkdir(parents=True, exist_ok=True)
    click.echo(f"similarity of operands over {artefact.graph.steps} steps", err=True)
    similarity = measure(artefact, configs[0], max(batch // 4, 1))
    comparisons = []
    for config in configs:
        click.echo(f"designs on {config.board}", err=True)
        comparisons.append(compare(artefact, config, batch))
    draw_similarity(similarity, output / "similarity.png")
    draw_classes(similarity, output / "bit-widths.png")
    draw_designs(comparisons, output / "designs.png")
    (output / "numbers.json").write_text(json.dumps({"rows": [vars(row) for row in rows(similarity, comparisons)],
                                                     "comparisons": comparisons}, indent=1) + "\n")  # fmt: skip
    (output / "README.md").write_text(page(similarity, comparisons))
    click.echo(f"{output}/README.md: {len(rows(similarity, comparisons))} numbers beside the paper's, 3 figures")


def rows(similarity: Similarity, comparisons: list[dict[str, Any]]) -> list[Row]:
    """The paper's numbers are those of PAPERS' sources: averages over its seven models on its own accelerator."""
    temporal, spatial, original = (similarity.fractions(source) for source in ("temporal", "spatial", "original"))
    cosine = similarity.cosine["temporal"].mean(axis=0)
    cosines = f"{cosine.mean():.3f} ({cosine.min():.3f})"
    narrower = (similarity.reach["original"] / np.maximum(similarity.reach["temporal"], 1)).mean()
    dense = 1 - similarity.bit_operations("temporal")
    skipping = 1 - similarity.bit_operations("temporal") / similarity.bit_operations("original")
    against_spatial = 1 - similarity.bit_operations("temporal") / similarity.bit_operations("spatial")
    first = comparisons[0]
    designs = {design["name"]: design for design in first["designs"]}
    board, found = first["configuration"]["board"], first["statistics"]
    bytes_of = {name: design["dram_bytes_per_image"] for name, design in designs.items()}
    history = "accumulators are kept in 32 bits, operands in 8, both written and read"
    memory_bound = "a small model whose operators the board's memory ports bound, not its multipliers"
    best = max(comparisons, key=_speedup)
    return [
        Row("temporal cosine similarity, mean (least layer)", "0.983 (0.947)", cosines, "measured"),
        Row(
            "spatial cosine similarity",
            "0.31",
            f"{similarity.cosine['spatial'].mean():.2f}",
            "measured",
            "28 x 28 images of clothes on a flat background; the first operand of attention too",
        ),
        Row(
            "range of temporal differences, narrower by",
            "8.96 (DDPM 25.0)",
            f"{narrower:.1f}",
            "measured",
            "in codes, mean over layers and steps",
        ),
        Row("temporal differences: zero", "44.5 %", f"{temporal[0]:.1%}", "measured"),
        Row("temporal differences: 4 bits or zero", "96.0 %", f"{temporal[:2].sum():.1%}", "measured"),
        Row("spatial differences: zero / 4 bits / more", "~26 / 48 / 26 %", _three(spatial), "measured"),
        Row("codes themselves: zero / 4 bits / more", "~18 / 40 / 42 %", _three(original), "measured"),
        Row("bit operations saved against 8 x 8 bits", "DDPM 68.8 %", f"{dense:.1%}", "measured"),
        Row("the same against codes with zeros and 4 bits skipped", "53.3 %", f"{skipping:.1%}", "measured"),
        Row("the same against spatial differences", "23.1 %", f"{against_spatial:.1%}", "measured"),
        Row(
            "memory accesses of bare differences",
            "2.75 x",
            f"{bytes_of['difference'] / bytes_of['itc']:.2f} x",
            f"counted, {board}",
            history,
        ),
        Row(
            "memory accesses of Ditto",
            "1.56 x",
            f"{bytes_of['ditto'] / bytes_of['itc']:.2f} x",
            f"counted, {board}",
            history,
        ),
        Row(
            "memory accesses of Ditto+",
            "1.36 x",
            f"{bytes_of['ditto+'] / bytes_of['itc']:.2f} x",
            f"cost model, {board}",
            history,
        ),
        Row(
            "layers sent back to reference zero",
            "14.4 %",
            f"{found['defo_layers_original']:.1%}",
            f"emulated, {board}",
            memory_bound,
        ),
        Row(
            "decisions of Defo that an oracle shares",
            "92 %",
            f"{found['defo_oracle_agreement']:.1%}",
            f"emulated, {board}",
        ),
        Row(
            "speedup over the dense array",
            "up to 1.5",
            f"{designs['ditto']['speedup']:.2f}",
            f"emulated, {board}",
            "the dense array gets all multipliers that fit without digit queues; vector unit and ports are shared by both",
        ),
        Row(
            "the same on the board where it is largest",
            "",
            f"{_speedup(best):.2f}",
            f"emulated, {best['configuration']['board']}",
        ),
        Row(
            "energy against the dense array",
            "-17.7 %",
            f"{designs['ditto']['energy_uj_per_image']['total'] / designs['itc']['energy_uj_per_image']['total'] - 1:+.1%}",
            f"estimated, {board}",
            "DRAM traffic of the history; the paper has 192 MB on chip",
        ),
    ]


def _speedup(data: dict[str, Any]) -> float:
    return next(design["speedup"] for design in data["designs"] if design["name"] == "ditto")


def _three(fractions: np.ndarray) -> str:
    return " / ".join(f"{100 * value:.0f}" for value in fractions) + " %"


def page(similarity: Similarity, comparisons: list[dict[str, Any]]) -> str:
    lines = [
        "# Ditto's numbers and ours",
        "",
        f"{len(similarity.names)} linear operators, {len(similarity.cosine['temporal']) + 1} steps. The paper's numbers are "
        "averages over its seven models on its own 45 nm accelerator; ours are of one model on FPGA configurations that have not "
        "been built.",
        "",
        "| | paper | ours | ours is | why they differ |",
        "|---|---|---|---|---|",
        *(
            f"| {row.what} | {row.paper} | {row.ours} | {row.kind} | {row.why} |"
            for row in rows(similarity, comparisons)
        ),
        "",
        "![similarity](similarity.png)",
        "![bit widths](bit-widths.png)",
        "![designs](designs.png)",
        "",
        "Not here: accuracy (the bundled model's is in the repository's README), and Cambricon-D. Diffy and Ditto+ are cost "
        "models: the engine has no spatial reference yet.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
