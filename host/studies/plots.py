"""Figures of profiles and comparisons (matplotlib). The numbers are those of the JSON reports."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ...hls.contract.references import Reference
from ..common.files import write_atomically
from ..common.words import number_of, shortened
from .similarity import SOURCES, Similarity

COLOURS = {"original": "#7f7f7f", "temporal": "#1f77b4", "spatial": "#ff7f0e"}
REFERENCES = {
    Reference.ZERO: "#d9d9d9",
    Reference.PREVIOUS_STEP: "#1f77b4",
    Reference.NEIGHBOUR: "#ff7f0e",
}  # in this order
DPI = 110
STEPS = "denoising step (the first is 1)"
NOT_RUN = "white"
MARKERS = "os^vDPX*"
LONGEST_SUBJECT = 120  # characters
DIGEST_LENGTH = 6  # of a file's name


def stem(folder: Path, subjects: Sequence[str], digests: Sequence[str], *more: str) -> Callable[[str], Path]:
    """What makes paths of figures in ``folder`` whose names say what they are of: other models, boards and flows have figures of
    their own.

    ``digests`` of the models tell those of one name apart; all of them together are one in the name.
    """
    digest = digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()
    parts = ["-".join(map(_plain, subjects))[:LONGEST_SUBJECT], digest[:DIGEST_LENGTH], *map(_plain, more)]
    return lambda figure: folder / f"{'-'.join(parts)}-{figure}.png"


def _plain(text: str) -> str:
    return re.sub(r"[^\w.+]+", "-", text).strip("-")


def subject(comparison: dict[str, Any]) -> str:
    """What a comparison (:func:`.compare.compare`) is of: a model, or an architecture with a model's digits."""
    model = str(comparison.get("model", ""))
    architecture = comparison.get("architecture")
    return f"{architecture['name']}, digits of {model}" if architecture else model


def _figure(width: float, height: float) -> Figure:
    """A figure of ``width`` x ``height`` inches, in which nothing overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    FigureCanvasAgg(figure)
    write_atomically(path, lambda file: figure.savefig(file, dpi=DPI, format="png"))


# ------------------------------------------------------------------------------------------------------ operands


def draw_similarity(similarity: Similarity, path: Path) -> None:
    """Draw Ditto's figures 3 and 4: cosine similarity per step (mean and range of layers), and the range of codes and of
    differences."""
    figure = _figure(10, 3.4)
    left, right = figure.subplots(1, 2)
    steps = _steps_with_a_previous_one(similarity)
    for source in ("temporal", "spatial"):
        values = similarity.cosine[source]
        left.plot(steps, values.mean(axis=1), color=COLOURS[source], label=source)
        left.fill_between(steps, values.min(axis=1), values.max(axis=1), color=COLOURS[source], alpha=0.15, lw=0)
    left.set(ylabel="cosine similarity of codes", ylim=(None, 1.02))
    left.legend(title="mean and range of layers", title_fontsize=8, loc="lower left", fontsize=8)
    for source in SOURCES:
        right.plot(steps, similarity.reach[source].mean(axis=1), color=COLOURS[source], label=source)
    right.set(ylabel="largest minus smallest (codes)", ylim=(0, None))
    right.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=8, frameon=False)
    for axis in (left, right):
        axis.set_xlim(1, steps[-1])
        _count_steps(axis)
    save(figure, path)


def draw_classes(similarity: Similarity, path: Path) -> None:
    """Draw Ditto's figure 5: zeros, 4 bits and more, of codes and of differences, per step and over all."""
    figure = _figure(10, 3.4)
    axes = figure.subplots(1, 3, sharey=True)
    steps = _steps_with_a_previous_one(similarity)
    for axis, source in zip(axes, SOURCES, strict=True):
        fractions = np.average(similarity.classes[source], axis=1, weights=similarity.macs)
        axis.stackplot(steps, fractions.T, labels=("zero", "4 bits", "more"), colors=("#c6dbef", "#6baed6", "#08519c"))
        axis.set(xlim=(steps[0], max(steps[-1], 3)), ylim=(0, 1))
        axis.set_title(source, fontsize=9)
        _count_steps(axis)
    axes[0].set_ylabel("fraction of operand elements,\nweighted by multiplications")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    save(figure, path)


def _steps_with_a_previous_one(similarity: Similarity) -> np.ndarray:
    return np.arange(2, len(similarity.cosine["temporal"]) + 2)


def _count_steps(axis: Any) -> None:
    axis.set_xlabel(STEPS)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


# ------------------------------------------------------------------------------------------------------ profile


def draw_profile(profile: dict[str, Any], path: Callable[[str], Path]) -> list[Path]:
    """Draw figures of a profile (:func:`.report.profile_json`): classes, decisions, cycles and bytes of layers. Returns their
    paths."""
    linear = [operation for operation in profile["operations"] if sum(operation["elements"])]
    paths = [path(name) for name in ("layers", "decisions", "cycles")]
    _draw_layers(linear, paths[0])
    _draw_decisions(linear, paths[1])
    _draw_cycles(profile, paths[2])
    return paths


def _draw_layers(linear: list[dict[str, Any]], path: Path) -> None:
    elements = np.array([each["elements"] for each in linear], float)
    elements[elements == 0] = np.nan  # an operator that does not run in this step
    zeros, narrow = (np.array([each[name] for each in linear]) / elements for name in ("zeros", "narrow"))
    dense = np.maximum(np.array([each["dense_products"] for each in linear], float), 1)
    products = np.array([each["products"] for each in linear]) / dense
    figure = _figure(12, 0.13 * len(linear) + 1.6)
    axes = figure.subplots(1, 3, sharey=True)
    panels = (
        ("zero", zeros, "Blues", 1),
        ("more than 4 bits", 1 - zeros - narrow, "Reds", None),
        ("digit products per dense product", products, "viridis_r", None),
    )
    for axis, (title, values, colours, most) in zip(axes, panels, strict=True):
        image = draw_steps(axis, values, cmap=colours, vmin=0, vmax=most)
        axis.set_title(title, fontsize=9)
        figure.colorbar(image, ax=axis, fraction=0.08)
    _name_rows(axes[0], [each["name"] for each in linear])
    save(figure, path)


def _draw_decisions(linear: list[dict[str, Any]], path: Path) -> None:
    taken = chosen_references(linear)
    figure = _figure(8, 0.13 * len(linear) + 1.2)
    axis = figure.subplots()
    colours = ListedColormap(list(REFERENCES.values()))
    boundaries = BoundaryNorm(np.arange(len(REFERENCES) + 1) - 0.5, colours.N)
    image = draw_steps(axis, taken, cmap=colours, norm=boundaries)
    bar = figure.colorbar(image, ax=axis, ticks=range(len(REFERENCES)), fraction=0.05)
    bar.ax.set_yticklabels([each.name.lower().replace("_", " ") for each in REFERENCES], fontsize=8)
    axis.set_title(
        "reference taken" + (" (white: not run, or nothing to choose)" if taken.mask.any() else ""), fontsize=9
    )
    _name_rows(axis, [each["name"] for each in linear])
    save(figure, path)


def chosen_references(linear: list[dict[str, Any]]) -> np.ma.MaskedArray:
    """References taken [layers, steps] by linear operations, masked where one does not run, and all of one that runs in one step
    only: what is the same in all steps has nothing to choose."""
    runs = np.array([each["elements"] for each in linear]) > 0
    chooses = runs.sum(axis=1, keepdims=True) > 1
    return np.ma.masked_array([each["reference"] for each in linear], mask=~(runs & chooses))


def draw_steps(axis: Any, values: np.ndarray, **colours: Any) -> Any:
    """Draw values [layers, steps] as an image, a row per layer and a column per step, the first of which is 1; what is not there
    is white. Returns matplotlib's image."""
    rows, steps = values.shape
    axis.set_facecolor(NOT_RUN)
    extent = (0.5, steps + 0.5, rows - 0.5, -0.5)
    image = axis.imshow(values, aspect="auto", interpolation="nearest", extent=extent, **colours)
    _count_steps(axis)
    return image


def _draw_cycles(profile: dict[str, Any], path: Path) -> None:
    operations = profile["operations"]
    cycles, stalls = (np.array([sum(each[name]) for each in operations]) for name in ("cycles", "stall_cycles"))
    is_linear = np.array([sum(each["elements"]) > 0 for each in operations])
    megabytes = np.array([sum(each["dram_bytes"]) for each in operations]) / 1e6
    figure = _figure(11, 0.13 * len(operations) + 1.4)
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(operations))
    million = profile["samples"] * 1e6
    busy = np.where(is_linear, cycles - stalls, 0) / million
    left.barh(rows, busy, color="#1f77b4", label="multipliers busy")
    waiting = np.where(is_linear, stalls, 0) / million
    label = "multipliers wait (memory, encoder, results)"
    left.barh(rows, waiting, left=busy, color="#d62728", label=label)
    left.barh(rows, np.where(is_linear, 0, cycles) / million, color="#2ca02c", label="vector unit")
    left.set(xlabel="million cycles per image, all steps (emulated)")
    left.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=7, frameon=False)
    right.barh(rows, megabytes / profile["samples"], color="#7f7f7f")
    right.set(xlabel="MB of DRAM traffic per image, all steps (counted)")
    _name_rows(left, [each["name"] for each in operations])
    left.set_ylim(len(operations) - 0.5, -0.5)
    save(figure, path)


def _name_rows(axis: Any, names: list[str]) -> None:
    axis.set_yticks(range(len(names)), [shortened(name) for name in names], fontsize=5)


# ------------------------------------------------------------------------------------------------------ comparison


def draw_designs(comparisons: list[dict[str, Any]], path: Path) -> None:
    """Draw Ditto's figures 13 and 14: speed, DRAM traffic and energy of every design against the dense array of equal
    resources."""
    figure = _figure(11, 3.6)
    axes = figure.subplots(1, 3)
    names = [design["name"] for design in comparisons[0]["designs"]]
    kinds = " or ".join(sorted({data["kind"] for data in comparisons}))
    width = 0.8 / len(comparisons)
    for index, data in enumerate(comparisons):
        designs, baseline = data["designs"], data["designs"][0]
        series = (
            [design["speedup"] for design in designs],
            [design["dram_bytes_per_image"] / baseline["dram_bytes_per_image"] for design in designs],
            [design["energy_uj_per_image"]["total"] / baseline["energy_uj_per_image"]["total"] for design in designs],
        )
        label = ", ".join(filter(None, (subject(data), data["configuration"]["board"], _images(data))))
        for axis, values in zip(axes, series, strict=True):
            axis.bar(np.arange(len(names)) + index * width, values, width, label=label)
    for axis, title in zip(axes, (f"speedup ({kinds})", "DRAM bytes", "energy (estimated)"), strict=True):
        axis.axhline(1, color="black", lw=0.6)
        axis.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names, rotation=40, ha="right", fontsize=8)
        axis.set_title(f"{title}, itc = 1", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    save(figure, path)


def _images(data: dict[str, Any]) -> str:
    return number_of(data["images"], "image") if "images" in data else ""


def draw_sweep(results: list[dict[str, Any]], path: Path) -> None:
    """Draw speedups over the dense array of the same bandwidth, of comparisons that differ in it."""
    figure = _figure(7.5, 3.8)
    axis = figure.subplots()
    bandwidths = [data["configuration"]["dram_gb_per_s"] for data in results]
    for index, design in enumerate(results[0]["designs"]):
        speedups = [data["designs"][index]["speedup"] for data in results]
        line = "--" if index % 2 else "-"  # designs that are equally fast lie on each other
        axis.plot(
            bandwidths, speedups, line, marker=MARKERS[index % len(MARKERS)], ms=5, alpha=0.8, label=design["name"]
        )
    axis.set(
        xlabel="DRAM bandwidth (GB/s)", ylabel=f"speedup over itc ({results[0]['kind']})", xscale="log", ylim=(0, None)
    )
    axis.xaxis.set_major_locator(FixedLocator(sorted(set(bandwidths))))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_title(", ".join(filter(None, (subject(results[0]), results[0]["configuration"]["board"]))), fontsize=9)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    save(figure, path)
