"""Accelerators beside each other on one board: the same program, memory system and vector unit, other linear units.

All cycles are emulated by one cost model (:mod:`..costs.cycles`). The dense baselines are ITC, the int8 tensor-core-like
array that Ditto compares with (HPCA 2025, table III): a cycle per tap and word of channels, nothing skipped, no history. All
other designs are this engine in one of its execution flows, so what they cost is what the C simulation counts too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...hls.artefact.model import QuantizedModel
from ...hls.contract.references import Reference
from ...hls.contract.tensor import Tables
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import COUNTERS
from ...hls.machine.resources import largest_dense, multiplier_size
from ..common.words import number_of
from ..costs.cycles import CycleModel
from ..costs.energy import energy
from ..counting.traffic import dram_beats
from ..devices.emulator import EmulatorDevice
from ..program.compiler import Program, lay_out
from ..program.operations import fitting
from ..runtime.model import Model
from ..runtime.session import DEFO, DEFO_PLUS, DIFFERENCE, ORIGINAL, SPATIAL
from . import published
from .architectures import build
from .report import bit_operations
from .similarity import check_differences
from .workload import Lender, counters_of_flows

MOST_MODELLED = 256  # images of an architecture, whose digits are counted of operands of its real size
BASELINE = "itc"
ENGINE_DESIGNS = (  # name, execution flow, what it is
    ("digits", ORIGINAL, "digits of the codes themselves, zeros skipped: reference zero in every step"),
    ("diffy", SPATIAL, "digits of differences to the pixel or token before, in every step (Diffy, MICRO 2018)"),
    ("difference", DIFFERENCE, "Ditto without Defo: the previous step wherever there is one"),
    ("ditto", DEFO, "Ditto with Defo: per operator the cheaper of both, after a step of each"),
    ("ditto+", DEFO_PLUS, "as ditto, and diffy's differences where they are cheaper still"),
)
WARM_UP = 2  # steps in which Defo tries either reference


@dataclass(frozen=True)
class Design:
    """What one accelerator takes for an image: cycles of all steps, and DRAM bytes; ``assumes`` says what it stands for.

    ``multiplying_cycles_per_image``: the multipliers' alone, with their imbalance. ``floor_cycles_per_image``: of each step
    these, or DRAM's at its peak bandwidth, what is more: what would be left if nothing else took time (a roofline).
    """

    name: str
    assumes: str
    cores: int
    cycles_per_image: float
    multiplying_cycles_per_image: float
    floor_cycles_per_image: float
    vector_cycles_per_image: float
    dram_bytes_per_image: float
    energy_uj_per_image: dict[str, float]


@dataclass(frozen=True)
class Statistics:
    """What the differences between steps are like, over all linear operators and steps with a previous one, weighted by MACs.

    ``bops_reduction``: bit operations saved against 8 x 8 bits, where zeros cost none and differences of 4 bits half (Ditto's
    classes); ``digit_products``: products of digits that the engine multiplies per product of the dense array.
    """

    zero: float
    fits_4_bits: float
    bops_reduction: float
    digit_products: float
    defo_oracle_agreement: float
    defo_layers_original: float


@dataclass(frozen=True)
class Work:
    """What the designs are compared on: a program's shapes, and counter records [steps, layers] of each execution flow.

    ``images`` come of the program's batch, which with guidance is twice as large.
    """

    program: Program
    images: int
    counters: dict[str, np.ndarray]


def check_schedules(artefacts: Mapping[str, QuantizedModel]) -> None:
    """ValueError for models that are not of one schedule: their steps, and so their differences, cannot be compared."""
    schedules = {
        name: number_of(artefact.graph.steps, f"{artefact.quantization['scheduler']} step")
        + f", timesteps {artefact.timesteps[0]} to {artefact.timesteps[-1]}"
        for name, artefact in artefacts.items()
    }
    if len({artefact.timesteps for artefact in artefacts.values()}) > 1 or len(set(schedules.values())) > 1:
        found = "; ".join(f"{name}: {schedule}" for name, schedule in schedules.items())
        raise ValueError(f"found models of different schedules ({found}), expected one; quantize them for the same")


def compare(
    artefact: QuantizedModel,
    config: HardwareConfig,
    batch: int = 16,
    seed: int = 0,
    progress: Callable[[str], object] = lambda text: None,
    memory_mib: int | None = None,
) -> dict[str, Any]:
    """All designs on ``config``'s board for one batch of images of a quantized model; JSON-ready."""
    counters = {}
    for _, flow, _ in ENGINE_DESIGNS:
        progress(f"emulating {number_of(batch, 'image')}: {flow}")
        model = Model(artefact, EmulatorDevice(config), memory_mib=memory_mib)
        record = model.denoise_as_calibrated(batch, seed, flow).record
        assert record is not None
        counters[flow] = record.counters
    program = lay_out(artefact.graph, artefact.tables, config, batch * artefact.branches)
    return {"kind": "emulated", **_compared(Work(program, batch, counters), artefact.tables)}


def compare_architecture(
    name: str,
    artefact: QuantizedModel,
    config: HardwareConfig,
    images: int = 16,
    seed: int = 0,
    progress: Callable[[str], object] = lambda text: None,
    memory_mib: int | None = None,
) -> dict[str, Any]:
    """All designs for an architecture (:mod:`.architectures`), with digits as a run of ``artefact`` has them; JSON-ready.

    The row buffers of ``config`` grow to the architecture's needs, and its cores become fewer if they no longer fit the board;
    ValueError where not even one does, and for too many images.
    """
    if images > MOST_MODELLED:
        raise ValueError(
            f"found {images:,} images of an architecture, expected at most {MOST_MODELLED}; take a smaller --batch"
        )
    check_differences(artefact.graph)
    architecture, graph, tables = build(name)
    config = fitting(config, graph)
    program = lay_out(graph, tables, config, images * architecture.samples)
    last = artefact.graph.steps - 1
    lender = Lender(artefact, config, tuple(sorted({1, max(last // 2, 1), last})), seed, memory_mib)
    counters = counters_of_flows(program, lender, progress)
    work = Work(program, images, {flow: program.by_layer(each) for flow, each in counters.items()})
    return {
        "kind": "modelled",
        "architecture": asdict(architecture),
        "lent_steps": [transition.step for transition in lender.transitions],
        **_compared(work, tables),
    }


def _compared(work: Work, tables: Tables) -> dict[str, Any]:
    config = work.program.config
    designs = list(_designs(work, tables))
    baseline = next(design for design in designs if design.name == BASELINE)
    milliseconds = 1e-3 / config.clock_mhz
    return {
        "configuration": config.to_json(),
        "images": work.images,
        "batch": work.program.batch,
        "steps": work.program.graph.steps,
        "designs": [
            {
                **asdict(design),
                "ms_per_image": design.cycles_per_image * milliseconds,
                "speedup": baseline.cycles_per_image / design.cycles_per_image,
                "multiplying_speedup": baseline.multiplying_cycles_per_image / design.multiplying_cycles_per_image,
                "floor_speedup": baseline.floor_cycles_per_image / design.floor_cycles_per_image,
            }
            for design in designs
        ],
        "statistics": asdict(statistics(work.counters)) if work.program.graph.steps > 1 else None,
    }


def _designs(work: Work, tables: Tables) -> Iterator[Design]:
    program, config = work.program, work.program.config
    linear = np.array([layer.is_linear for layer in program.layers])
    constant = np.array([layer.name in program.facts.constant for layer in program.layers])
    for name, cores, sign_mask, assumes in (
        (
            BASELINE,
            largest_dense(config),
            False,
            "dense 8x8 array of as many cores as fit the board without digit queues",
        ),
        ("itc-same", config.cores, False, "dense 8x8 array with the same multipliers as the configuration"),
        (
            "cambricon-d",
            largest_dense(config),
            True,
            "dense array of narrow multipliers, sign-mask (ISCA 2024; not exact)",
        ),
    ):
        modelled = config.modelled(cores=cores)
        dense = lay_out(program.graph, tables, modelled, program.batch)
        step = dense.by_layer(CycleModel(modelled, dense.descriptors).dense(sign_mask))
        counters = np.stack([step] * program.graph.steps)
        counters[1:, constant] = np.zeros((), COUNTERS)
        yield _design(work, linear, counters, name, assumes, cores, dense=True, sign_mask=sign_mask)
    for name, flow, assumes in ENGINE_DESIGNS:
        yield _design(work, linear, work.counters[flow], name, assumes, config.cores)


def _design(
    work: Work,
    linear: np.ndarray,
    counters: np.ndarray,
    name: str,
    assumes: str,
    cores: int,
    *,
    dense: bool = False,
    sign_mask: bool = False,
) -> Design:
    """A design by its ``counters`` [steps, layers], of which those of ``linear`` bool [layers] are its linear unit's. ``dense``:
    one whose cores share the weights; ``sign_mask``: with narrow multipliers."""
    config, images = work.program.config, work.images
    bytes_of_steps = dram_beats(counters).sum(axis=1) * config.bus_bytes
    multiplying = counters["compute_cycles"].sum(axis=1) / cores
    floor = np.maximum(multiplying, bytes_of_steps * 1000 / config.dram_bytes_per_kilocycle)
    products = int(counters["dense_products" if dense else "products"].sum()) / images
    dram = int(bytes_of_steps.sum()) / images
    size = multiplier_size(config, digits=sign_mask or not dense, queues=not dense)
    spent = energy(products, size, cores if dense else 1, dram)
    return Design(
        name=name,
        assumes=assumes,
        cores=cores,
        cycles_per_image=int(counters["cycles"].sum()) / images,
        multiplying_cycles_per_image=float(multiplying.sum()) / images,
        floor_cycles_per_image=float(floor.sum()) / images,
        vector_cycles_per_image=int(counters["cycles"][:, ~linear].sum()) / images,
        dram_bytes_per_image=dram,
        energy_uj_per_image={**asdict(spent), "total": spent.total},
    )


def statistics(counters: dict[str, np.ndarray]) -> Statistics:
    """Statistics of differences, by counter records [steps, layers] of the flows with reference zero, with the previous step, and
    with Defo."""
    original, difference, defo = (counters[flow] for flow in (ORIGINAL, DIFFERENCE, DEFO))
    linear = (difference["elements"] > 0).all(axis=0)  # what is the same in all steps runs in the first one only
    later = difference[1:, linear]
    elements, dense = later["elements"].astype(np.float64), later["dense_products"].astype(np.float64)
    zero, narrow = later["zeros"] / elements, later["narrow"] / elements
    settled = defo[WARM_UP:, linear]["reference"] == Reference.PREVIOUS_STEP
    cheaper = (difference["cycles"] < original["cycles"])[WARM_UP:, linear]
    return Statistics(
        zero=float(np.average(zero, weights=dense)),
        fits_4_bits=float(np.average(zero + narrow, weights=dense)),
        bops_reduction=1 - bit_operations(later),
        digit_products=float(later["products"].sum() / dense.sum()),
        defo_oracle_agreement=float((settled == cheaper).mean()) if settled.size else 1.0,
        defo_layers_original=float(1 - settled.mean()) if settled.size else 0.0,
    )


def sweep_table(results: list[dict[str, Any]]) -> str:
    """Speedups over the dense array of equal resources for people, a row per bandwidth."""
    names = [design["name"] for design in results[0]["designs"]]
    config = results[0]["configuration"]
    lines = [
        f"{config['board']}: speedup over itc at the same bandwidth. Cycles are {results[0]['kind']}.",
        f"{'GB/s':>6} {'itc ms/image':>13} " + " ".join(f"{name:>10}" for name in names),
    ]
    for data in results:
        speedups = " ".join(f"{design['speedup']:>10.2f}" for design in data["designs"])
        baseline = data["designs"][0]["ms_per_image"]
        lines.append(f"{data['configuration']['dram_gb_per_s']:>6} {baseline:>13.1f} {speedups}")
    return "\n".join(lines) + "\n"


def _subject(data: dict[str, Any]) -> str:
    if "architecture" not in data:
        return ""
    return f"{data['architecture']['source']}, with the digits of a smaller model's run. "


def table(data: dict[str, Any]) -> str:
    """The comparison for people."""
    config = data["configuration"]
    lines = [
        f"{_subject(data)}{config['board']} at {config['clock_mhz']} MHz, "
        f"{number_of(data['steps'], 'step')}, batch {data['batch']}. Cycles are {data['kind']}, "
        "energy is estimated (host/costs/energy.py).",
        "of floors: the speedup if nothing but multiplying and DRAM's peak bandwidth took time; multiply: only multiplying.",
        f"{'design':12} {'cores':>5} {'ms/image':>9} {'speedup':>8} {'of floors':>9} {'multiply':>8} {'vector':>7} "
        f"{'MB/image':>9} {'mJ/image':>9}  what it is",
    ]
    for design in data["designs"]:
        vector = design["vector_cycles_per_image"] / design["cycles_per_image"]
        lines.append(
            f"{design['name']:12} {design['cores']:>5} {design['ms_per_image']:>9.1f} {design['speedup']:>8.2f} "
            f"{design['floor_speedup']:>9.2f} {design['multiplying_speedup']:>8.2f} {vector:>7.0%} "
            f"{design['dram_bytes_per_image'] / 1e6:>9.1f} "
            f"{design['energy_uj_per_image']['total'] / 1e3:>9.2f}  "
            f"{design['assumes']}"
        )
    found = data["statistics"]
    if found is None:
        return "\n".join([*lines, "", "There is one step, so there are no differences between steps."]) + "\n"
    return "\n".join([*lines, "", *_beside_the_paper(found)]) + "\n"


def _beside_the_paper(found: dict[str, float]) -> list[str]:
    """Statistics of differences, each beside what Ditto's authors published of it."""
    rows: tuple[tuple[str, str, published.Published | None], ...] = (
        ("zero", f"{found['zero']:.1%}", published.ZERO),
        ("fit 4 bits (zeros too)", f"{found['fits_4_bits']:.1%}", published.FITS_4_BITS),
        ("bit operations saved against 8 x 8", f"{found['bops_reduction']:.1%}", published.BIT_OPERATIONS_OF_DDPM),
        ("digit products per dense product", f"{found['digit_products']:.2f}", None),
        (
            "decisions of Defo that an oracle shares",
            f"{found['defo_oracle_agreement']:.1%}",
            published.DEFO_AGREEMENT,
        ),
        ("decisions for reference zero", f"{found['defo_layers_original']:.1%}", published.DEFO_ORIGINAL),
    )
    return [
        f"{'differences between steps (weighted by MACs)':48} {'found':>7} {'Ditto, HPCA 2025':>17}",
        *(f"{what:48} {ours:>7} {paper.text if paper else '':>17}".rstrip() for what, ours, paper in rows),
    ]
