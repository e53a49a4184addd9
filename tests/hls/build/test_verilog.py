"""The multipliers as an RTL blackbox: its C model in the C simulation, its Verilog, and their description for Vitis HLS."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from click.testing import CliRunner
from ditto_zynq.hls.build.csim import FLAGS, vendor_headers
from ditto_zynq.hls.build.generate import KERNELS, generate
from ditto_zynq.hls.build.verilog import BLACKBOX, DEFINES, latency, write_blackbox
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.machine.config import HardwareConfig, default_config
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.devices.csim import CSimDevice

from tests.hls.configs import SHIPPED, TINY
from tests.hls.rtl.simulators import Simulation
from tests.host.runs import assert_equal_everywhere, run_both

CONFIGS = {
    "chains of four": HardwareConfig(
        board="zcu104", cores=2, lanes=6, oc_tile=8, bus_bits=64, digit_depth=64, positions=64, weight_depth=64
    ),
    "no chains": HardwareConfig(
        board="pynq-z2",
        cores=1,
        lanes=3,
        oc_tile=4,
        clock_mhz=100,
        bus_bits=32,
        digit_depth=64,
        positions=32,
        weight_depth=64,
        row_bytes=2048,
        weight_memory="bram",
    ),
}


@pytest.mark.hls
@pytest.mark.parametrize("config", [TINY, SHIPPED], ids=["tiny", "zcu104"])
def test_the_c_model_gives_the_bits_of_the_kernels(no_reuse, config, tmp_path, monkeypatch):
    """Random graphs in the C simulation with exact widths, the multipliers being the blackbox's C function."""
    source = tmp_path / "src"
    generate(config, source)
    write_blackbox(config, tmp_path)
    library = tmp_path / "blackbox.so"
    includes = [f"-I{path}" for path in (source, KERNELS, vendor_headers())]
    sources = [str(source / name) for name in ("csim.cpp", "multiplier_columns.cpp")]
    subprocess.run(["g++", *FLAGS, *DEFINES, *includes, *sources, "-o", str(library)], check=True)
    monkeypatch.setattr("ditto_zynq.hls.build.csim.build_library", lambda *args, **kwargs: library)
    device = CSimDevice(config, "bits")
    for seed in range(2):
        build, graph = random_unet(seed)
        for session, expected in run_both(build, graph, device, "difference", 2):
            assert_equal_everywhere(session, expected)


@pytest.mark.rtl
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_rtl_gives_the_sums_of_products(config, simulator, tmp_path):
    sources = [path for path in write_blackbox(config, tmp_path) if path.suffix == ".v"]
    simulation = Simulation(simulator, BLACKBOX, tmp_path / "simulation", {}, sources=sources)
    simulation.run("columns_bench", [f"+latency={latency(config)}"])


@pytest.mark.parametrize("board", ["zcu104", "pynq-z2"])
def test_the_description_fits_function_and_module(board, tmp_path):
    """Names and widths of the C function's arguments are those of the module's ports, and all files are there."""
    paths = write_blackbox(default_config(board), tmp_path)
    described = json.loads((tmp_path / "multiplier_columns.json").read_text())
    named = [tmp_path / name for name in (*described["rtl_files"], described["c_files"][0]["c_file"])]
    assert set(named) < set(paths) and all(path.is_file() for path in named)
    module = named[0].read_text()
    ports = {name: int(high) + 1 for high, name in re.findall(r"(?:input|output) \[(\d+):0\] (\w+)", module)}
    [(result, name, arguments)] = re.findall(
        r"^ap_uint<(\d+)> (\w+)\((.*)\);",
        (tmp_path / "src" / "multiplier_columns.hpp").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert name == described["c_function_name"] == described["rtl_top_module_name"] and f"module {name} (" in module
    widths = {argument: int(width) for width, argument in re.findall(r"ap_uint<(\d+)> (\w+)", arguments)}
    assert [each["c_name"] for each in described["c_parameters"]] == list(widths)
    assert ports == widths | {"ap_return": int(result)}


def test_a_project_with_rtl_multipliers(tmp_path):
    command = ["build", "--board", "zcu104", "--project-only"]
    result = CliRunner().invoke(main, [*command, "--rtl-multipliers", "-o", str(tmp_path / "project")])
    assert result.exit_code == 0, result.output
    script = (tmp_path / "project" / "run_hls.tcl").read_text()
    assert all(define in script for define in DEFINES) and "add_files -blackbox multiplier_columns.json" in script
    plain = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "plain")])
    assert plain.exit_code == 0, plain.output
    assert "BLACKBOX" not in (tmp_path / "plain" / "run_hls.tcl").read_text()
    assert not (tmp_path / "plain" / "rtl").exists()
