"""Ditto's own setting (HPCA 2025, table III): four accelerators of equal area at 1 GHz, with 192 MB of SRAM.

What the paper's simulator does is known from secondary sources only, so this is its model as far as it can be told: a PE is a
multiplier, of 4 x 8 bits or of 8 x 8; equal numbers of lanes per PE; zeros are skipped where a design can; vector operations
are hidden (they take 0.17 % of its time); a layer takes the longer of its products and its DRAM traffic. DRAM's bandwidth is
not known, so it is a parameter, and so is whether the history of a run stays in the SRAM. Cycles are *modelled*.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...hls.artefact.model import QuantizedModel
from ..common.words import number_of
from .similarity import Similarity

CLOCK_GHZ = 1.0
SRAM_BYTES = 192 << 20
BANDWIDTHS = (100.0, 300.0, 1000.0, 3000.0)  # GB/s; the paper's is not known
KEPT_RESULT_BYTES = 2  # of an accumulator that is kept: not in any source, an assumption


Work = tuple[np.ndarray, np.ndarray]
"""Cycles and DRAM bytes, [steps - 1, operators]."""


@dataclass(frozen=True)
class Accelerator:
    """An accelerator of table III: ``narrow`` multipliers of 4 x 8 bits, ``wide`` ones of 8 x 8, and its power in watts."""

    name: str
    narrow: int
    wide: int
    watts: float


ITC = Accelerator("itc", 0, 27_648, 36.9)
DIFFY = Accelerator("diffy", 39_398, 0, 33.6)
CAMBRICON_D = Accelerator("cambricon-d", 38_280, 2_552, 33.3)
DITTO = Accelerator("ditto", 39_398, 0, 33.6)


@dataclass(frozen=True)
class Layers:
    """What linear operators take: per operator the multiplications and bytes of one image, and whether it is a product of
    attention; [steps - 1, operators] the slots of a multiplier of 4 bits per multiplication, for differences with zeros skipped
    (original codes take two, whatever they are), and the fraction of differences of more than 4 bits (``wide``)."""

    macs: np.ndarray
    weight_bytes: np.ndarray
    operand_bytes: np.ndarray
    result_elements: np.ndarray
    is_attention: np.ndarray
    temporal: np.ndarray
    spatial: np.ndarray
    wide: np.ndarray


def layers_of(artefact: QuantizedModel, similarity: Similarity) -> Layers:
    """The linear operators of a model that run in every step, with the slots that its measured ``similarity`` gives them."""
    graph, branches = artefact.graph, artefact.branches
    weights, operands, results, attention = [], [], [], []
    for node in (node for node in graph.linear_nodes if node.name in similarity.names):
        sources, result = [graph.tensors[name] for name in node.inputs], graph.tensors[node.name]
        is_product = node.weight_table is None
        weights.append(0 if is_product else node.products_of_a_sum(sources) * result.shape[2])
        operands.append(sum(source.size for source in sources) * branches)
        results.append(result.size * branches)
        attention.append(is_product)
    slots = {}
    for source in ("temporal", "spatial"):
        _, narrow, wide = np.moveaxis(similarity.classes[source], -1, 0)
        slots[source] = narrow + 2 * wide
    sub_operations = np.where(attention, 2, 1)  # the other operand is taken to be as this one
    slots["temporal"] = slots["temporal"] * sub_operations
    return Layers(
        macs=similarity.macs * branches,
        weight_bytes=np.array(weights),
        operand_bytes=np.array(operands),
        result_elements=np.array(results),
        is_attention=np.array(attention),
        temporal=slots["temporal"],
        spatial=slots["spatial"],
        wide=similarity.classes["temporal"][..., 2],
    )


def check_on_chip(artefact: QuantizedModel, batch: int) -> None:
    """ValueError where the history of ``batch`` samples, operands and kept results of all linear operators, does not fit the
    SRAM."""
    tensors = artefact.graph.tensors
    one = sum(
        sum(tensors[name].size for name in node.inputs) + KEPT_RESULT_BYTES * tensors[node.name].size
        for node in artefact.graph.linear_nodes
    )
    history = one * artefact.branches * batch
    if history > SRAM_BYTES:
        raise ValueError(
            f"the history of {number_of(batch, 'sample')} has {history:,} bytes, expected at most {SRAM_BYTES:,} on chip; "
            "take a smaller --batch"
        )


def compare(
    artefact: QuantizedModel, similarity: Similarity, gb_per_s: float, history_on_chip: bool, batch: int = 1
) -> dict[str, Any]:
    """Milliseconds, DRAM bytes and energy per image of each design, at a bandwidth; JSON-ready.

    Raises ValueError where ``history_on_chip`` and the history of ``batch`` samples does not fit the SRAM.
    """
    if gb_per_s <= 0:
        raise ValueError(f"found a bandwidth of {gb_per_s} GB/s, expected more than 0")
    if history_on_chip:
        check_on_chip(artefact, batch)
    layers = layers_of(artefact, similarity)
    per_cycle = gb_per_s / CLOCK_GHZ
    plain = layers.weight_bytes / batch + layers.operand_bytes + layers.result_elements
    kept = 0 if history_on_chip else layers.operand_bytes + 2 * KEPT_RESULT_BYTES * layers.result_elements

    def each_step(cycles: np.ndarray, traffic: np.ndarray) -> Work:
        cycles = np.broadcast_to(cycles, layers.temporal.shape)
        traffic = np.broadcast_to(traffic, layers.temporal.shape)
        return np.maximum(cycles, traffic / per_cycle), traffic

    macs = layers.macs
    itc = each_step(macs / ITC.wide, plain)
    original = each_step(2 * macs / DITTO.narrow, plain)
    spatial = each_step(layers.spatial * macs / DITTO.narrow, plain)
    difference = each_step(layers.temporal * macs / DITTO.narrow, plain + kept)
    inliers, outliers = (1 - layers.wide) * macs / CAMBRICON_D.narrow, layers.wide * macs / CAMBRICON_D.wide
    cambricon = each_step(
        np.where(layers.is_attention, 2 * macs / CAMBRICON_D.narrow, np.maximum(inliers, outliers)),
        plain
        + np.where(layers.is_attention, 0, 2 * KEPT_RESULT_BYTES * layers.result_elements * (not history_on_chip)),
    )
    designs = {
        "itc": _total(itc, itc),
        "diffy": _total(spatial, spatial),
        "cambricon-d": _total(cambricon, original),
        "difference": _total(difference, original),
        "ditto": _total(_cheaper(original, difference), original),
        "ditto+": _total(_cheaper(spatial, difference), spatial),
    }
    baseline_cycles, baseline_bytes = designs["itc"]
    power = {each.name: each.watts for each in (ITC, DIFFY, CAMBRICON_D, DITTO)}
    return {
        "kind": "modelled",
        "gb_per_s": gb_per_s,
        "history_on_chip": history_on_chip,
        "batch": batch,
        "accelerators": [asdict(each) for each in (ITC, DIFFY, CAMBRICON_D, DITTO)],
        "designs": [
            {
                "name": name,
                "ms_per_image": cycles / CLOCK_GHZ * 1e-6,
                "speedup": baseline_cycles / cycles,
                "traffic": traffic / baseline_bytes,
                "energy": cycles * power.get(name, DITTO.watts) / (baseline_cycles * ITC.watts),
            }
            for name, (cycles, traffic) in designs.items()
        ],
    }


def _cheaper(one: Work, other: Work) -> Work:
    """Defo: of each layer, what was cheaper in the first step that is counted, for good."""
    best = one[0][0] <= other[0][0]
    return np.where(best, one[0], other[0]), np.where(best, one[1], other[1])


def _total(later: Work, first: Work) -> tuple[float, float]:
    """Cycles and bytes of a run: the first step, which has none before it, and the others."""
    cycles, traffic = (float(part.sum() + of_first[0].sum()) for part, of_first in zip(later, first, strict=True))
    return cycles, traffic


def table(results: list[dict[str, Any]]) -> str:
    """Speedups over ITC for people, a row per bandwidth; traffic in the last lines."""
    names = [design["name"] for design in results[0]["designs"]]
    lines = [
        "Ditto's setting (table III): equal area, 1 GHz, equal lanes per PE. Speedup over itc; cycles are modelled.",
        f"{'GB/s':>8} {'history':>8} " + " ".join(f"{name:>11}" for name in names),
    ]
    for data in results:
        where = "SRAM" if data["history_on_chip"] else "DRAM"
        speedups = " ".join(f"{design['speedup']:>11.2f}" for design in data["designs"])
        lines.append(f"{data['gb_per_s']:>8g} {where:>8} {speedups}")
    traffic = " ".join(f"{design['traffic']:>11.2f}" for design in results[-1]["designs"])
    lines += ["", f"{'DRAM bytes over itc':>17} {traffic[2:]}"]
    return "\n".join(lines) + "\n"
