"""A Vitis HLS project and a Vivado block design for a configuration, run with AMD's tools where they are installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass
from pathlib import Path

from ..machine.config import HardwareConfig
from ..machine.resources import parts
from . import bitstreams
from .generate import KERNELS, environment, generate, kernel_headers
from .handoff import VLNV, bitstream_name, design_context
from .verilog import DEFINES, write_blackbox

REPORT = Path("hls/solution/syn/report/csynth.xml")


class ToolsMissing(RuntimeError):
    """AMD's tools are not on PATH; the project is complete and can be built elsewhere."""


class BuildFailed(RuntimeError):
    """A tool ended with an error; the message names its log."""


def write_project(config: HardwareConfig, folder: Path, rtl_multipliers: bool = False) -> list[Path]:
    """Sources, ``run_hls.tcl``, ``run_vivado.tcl`` and ``manifest.json`` in ``folder``; returns their paths.

    The sources need no vendor header beyond those that Vitis HLS has. ``rtl_multipliers``: as a blackbox (:mod:`.verilog`), not
    what HLS makes of the C++.
    """
    source = folder / "src"
    paths = [path for path in generate(config, source) if path.name != "csim.cpp"]
    (source / "csim.cpp").unlink()
    for header in kernel_headers():
        copy = source / header.relative_to(KERNELS)
        copy.parent.mkdir(exist_ok=True)
        paths.append(Path(shutil.copy(header, copy)))
    if rtl_multipliers:
        paths += write_blackbox(config, folder)
    context = design_context(config) | {
        "period_ns": 1e3 / config.clock_mhz,
        "defines": DEFINES if rtl_multipliers else (),
    }
    for name in ("run_hls.tcl", "run_vivado.tcl"):
        paths.append(folder / name)
        paths[-1].write_text(environment().get_template(f"{name}.j2").render(context))
    paths.append(write_manifest(config, folder, built=False, report=None))
    return paths


def write_manifest(config: HardwareConfig, folder: Path, built: bool, report: SynthesisReport | None) -> Path:
    """``manifest.json``: what the bitstream was made for, what resources we estimate, by which tool, and what that reported."""
    path = folder / "manifest.json"
    content = {
        "name": bitstream_name(config),
        "configuration": config.to_json(),
        "digest": config.digest,
        "vlnv": VLNV,
        "built": built,
        "estimated": {part: asdict(used) for part, used in parts(config).items()},
        "synthesis": None if report is None else asdict(report),
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


@dataclass(frozen=True)
class SynthesisReport:
    """Vitis HLS's own estimates (csynth.xml): clock in ns, resources used and available."""

    tool: str
    target_clock_ns: float
    estimated_clock_ns: float
    used: dict[str, int]
    available: dict[str, int]


def parse_report(path: Path) -> SynthesisReport:
    """ValueError where the file is no report of C synthesis."""
    try:
        root = ElementTree.parse(path).getroot()
        return SynthesisReport(
            _text(root, "ReportVersion/Version"),
            float(_text(root, "UserAssignments/TargetClockPeriod")),
            float(_text(root, "PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod")),
            _integers(root, "AreaEstimates/Resources"),
            _integers(root, "AreaEstimates/AvailableResources"),
        )
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path} is no csynth.xml of Vitis HLS ({error})") from error


def _text(root: ElementTree.Element, path: str) -> str:
    element = root.find(path)
    if element is None or element.text is None:
        raise ValueError(f"it has no {path}")
    return element.text


def _integers(root: ElementTree.Element, path: str) -> dict[str, int]:
    element = root.find(path)
    if element is None:
        raise ValueError(f"it has no {path}")
    return {child.tag: int(child.text or 0) for child in element}


def tool_commands() -> list[list[str]]:
    """The commands of the two steps; ToolsMissing, naming what is not on PATH."""
    if shutil.which("vitis_hls"):
        synthesis = ["vitis_hls", "-f", "run_hls.tcl"]
    elif shutil.which("vitis-run"):
        synthesis = ["vitis-run", "--mode", "hls", "--tcl", "run_hls.tcl"]
    else:
        raise ToolsMissing("found no vitis_hls or vitis-run on PATH")
    if not shutil.which("vivado"):
        raise ToolsMissing("found no vivado on PATH")
    return [synthesis, ["vivado", "-mode", "batch", "-source", "run_vivado.tcl"]]


def run_tools(config: HardwareConfig, folder: Path) -> SynthesisReport:
    """Synthesize, implement and write the bitstream in ``folder``. Raises ToolsMissing or BuildFailed."""
    for command in tool_commands():
        log = folder / f"{command[0]}.log"
        with log.open("w") as output:
            result = subprocess.run(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        if result.returncode:
            raise BuildFailed(f"{' '.join(command)} ended with {result.returncode}; see {log}")
    report = parse_report(folder / REPORT)
    write_manifest(config, folder, built=True, report=report)
    return report


def publish(config: HardwareConfig, folder: Path, target: Path) -> list[Path]:
    """Copy bitstream, hardware handoff and manifest to ``target`` under the configuration's name."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return bitstreams.publish(folder, config, manifest, target)
