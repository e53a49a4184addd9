"""The Vitis and Vivado project: complete, well-formed, and built by tools that play AMD's; none of AMD's has run it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from ditto_zynq.hls.build import project as build
from ditto_zynq.hls.build.csim import vendor_headers
from ditto_zynq.hls.build.project import (
    BuildFailed,
    ToolsMissing,
    bitstream_name,
    parse_report,
    run_tools,
    write_project,
)
from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.cli.app import main

REPORT = """<?xml version="1.0"?>
<profile>
<ReportVersion><Version>2024.2</Version></ReportVersion>
<UserAssignments><Part>xczu7ev-ffvc1156-2-e</Part><TargetClockPeriod>4.00</TargetClockPeriod></UserAssignments>
<PerformanceEstimates><SummaryOfTimingAnalysis><EstimatedClockPeriod>2.920</EstimatedClockPeriod></SummaryOfTimingAnalysis></PerformanceEstimates>
<AreaEstimates>
<Resources><BRAM_18K>400</BRAM_18K><DSP>1100</DSP><FF>90000</FF><LUT>120000</LUT><URAM>0</URAM></Resources>
<AvailableResources><BRAM_18K>624</BRAM_18K><DSP>1728</DSP><FF>460800</FF><LUT>230400</LUT><URAM>96</URAM></AvailableResources>
</AreaEstimates>
</profile>
"""

# Answers every Vivado command with a word, and records them; Tcl's own commands stay what they are.
STUBS = """
set calls {}
proc unknown {args} { global calls; lappend calls [lindex $args 0]; return "answer" }
proc get_property {name args} {
    if {$name eq "PROGRESS"} { return "100%" }
    if {$name eq "SLACK"} { return 0.1 }
    return "answer"
}
rename glob real_glob
proc glob {args} { return "handoff.hwh" }
rename file real_file
proc file {args} { return "copied" }
source run_vivado.tcl
puts "calls: $calls"
"""


@pytest.mark.parametrize("board", BOARDS)
def test_projects_are_complete_and_well_formed(board, tmp_path):
    config = default_config(board)
    paths = write_project(config, tmp_path)
    assert all(path.is_file() for path in paths) and {path.suffix for path in paths} == {
        ".hpp",
        ".cpp",
        ".tcl",
        ".json",
    }
    sources = tmp_path / "src"
    command = ["g++", "-std=c++14", "-w", "-fsyntax-only", f"-I{sources}", "-isystem", str(vendor_headers())]
    subprocess.run([*command, str(sources / "top.cpp")], check=True)
    assert BOARDS[board].part in (tmp_path / "run_hls.tcl").read_text()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["digest"] == config.digest and manifest["built"] is False and manifest["synthesis"] is None
    tkinter = pytest.importorskip("tkinter")
    interpreter = tkinter.Tcl()
    interpreter.eval(f"cd {tmp_path}")
    interpreter.eval(STUBS.replace('puts "calls: $calls"', ""))
    calls = interpreter.eval("set calls").split()
    assert {"create_project", "create_bd_design", "assign_bd_address", "validate_bd_design", "launch_runs"} <= set(
        calls
    )
    assert calls.count("connect_bd_intf_net") == 1 + 3 + 2 * 4, "control of three cells and four memory ports"


def test_reports_are_parsed(tmp_path):
    path = tmp_path / "csynth.xml"
    path.write_text(REPORT)
    report = parse_report(path)
    assert report.tool == "2024.2" and report.estimated_clock_ns == 2.92 and report.target_clock_ns == 4.0
    assert report.used["DSP"] == 1100 and report.available["URAM"] == 96
    for content, message in (("<profile/>", "it has no ReportVersion/Version"), ("nothing", "is no csynth.xml")):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            parse_report(path)


def play_tools(folder: Path, monkeypatch, synthesis: str, vivado: str) -> None:
    """Shell scripts named like AMD's tools, first on PATH."""
    folder.mkdir()
    for name, script in (("vitis_hls", synthesis), ("vivado", vivado)):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_tools_are_run_and_their_products_published(tmp_path, monkeypatch):
    config = default_config("zcu104")
    name = bitstream_name(config)
    (tmp_path / "report.xml").write_text(REPORT)
    synthesis = f"mkdir -p hls/solution/syn/report && cp {tmp_path}/report.xml hls/solution/syn/report/csynth.xml"
    play_tools(tmp_path / "bin", monkeypatch, synthesis, f"echo bits > {name}.bit; echo handoff > {name}.hwh")
    arguments = ["build", "-o", str(tmp_path / "project"), "--publish", str(tmp_path / "bitstreams")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "DSP: 1100 of 1728 (Vitis HLS's estimate)" in result.stdout
    assert sorted(path.name for path in (tmp_path / "bitstreams").iterdir()) == [
        f"{name}.bit",
        f"{name}.hwh",
        f"{name}.json",
    ]
    manifest = json.loads((tmp_path / "bitstreams" / f"{name}.json").read_text())
    assert manifest["built"] is True and manifest["synthesis"]["used"]["LUT"] == 120000


def test_a_failing_tool_is_named_with_its_log(tmp_path, monkeypatch):
    config = default_config("kv260")
    write_project(config, tmp_path / "project")
    play_tools(tmp_path / "bin", monkeypatch, "echo no licence; exit 7", "exit 0")
    with pytest.raises(BuildFailed, match=r"vitis_hls -f run_hls\.tcl ended with 7; see .*vitis_hls\.log"):
        run_tools(config, tmp_path / "project")
    assert (tmp_path / "project" / "vitis_hls.log").read_text() == "no licence\n"
    assert json.loads((tmp_path / "project" / "manifest.json").read_text())["built"] is False


def test_without_tools_the_project_is_left_and_the_exit_code_is_distinct(tmp_path, monkeypatch):
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(ToolsMissing, match="found no vitis_hls or vitis-run on PATH"):
        run_tools(default_config("zcu104"), tmp_path)
    result = CliRunner().invoke(main, ["build", "-o", str(tmp_path / "project")])
    assert result.exit_code == 3
    assert "not built: found no vitis_hls or vitis-run on PATH; run run_hls.tcl" in result.stderr
    assert (tmp_path / "project" / "run_vivado.tcl").is_file()
    only = CliRunner().invoke(main, ["build", "-o", str(tmp_path / "only"), "--project-only"])
    assert only.exit_code == 0 and (tmp_path / "only" / "src" / "top.cpp").is_file()
