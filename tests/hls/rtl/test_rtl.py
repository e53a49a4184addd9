"""The RTL of encoding unit and compute core, simulated: random streams, stops, resets, and blocks of real layers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from ditto_zynq.hls.build.verilog import write_header
from ditto_zynq.hls.machine.config import HardwareConfig, default_config
from ditto_zynq.host import load

from tests.hls.rtl.cases import cases_of, record_cases
from tests.hls.rtl.recording import Recorder
from tests.hls.rtl.replay import build, check_cycles, replay
from tests.hls.rtl.simulators import Simulation

pytestmark = pytest.mark.rtl

CORES = {  # lanes, oc_tile, and how the DSP slice is used
    "chains of four": {"LANES": 8, "OC_TILE": 4, "GAP": 18, "CHAIN": 4},
    "no chains": {"LANES": 3, "OC_TILE": 2, "GAP": 16, "CHAIN": 1},
    "shallow queues": {"LANES": 4, "OC_TILE": 2, "TAPS": 1, "SEGMENTS": 25, "TOKENS": 2, "TOTALS": 1},
}


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize("core", CORES)
def test_a_core_has_the_sums_and_the_cycles_of_the_kernels(core, simulator, tmp_path):
    tests = ["random_blocks", "largest_sums", "resets"] + ["cycles"] * (core != "shallow queues")
    Simulation(simulator, "bench_core", tmp_path, CORES[core]).run("core_bench", tests=tests)


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize(("lanes", "oc_tile", "gap", "chain"), [(8, 4, 18, 8), (6, 2, 16, 2), (5, 4, 18, 4)])
def test_the_dense_core(lanes, oc_tile, gap, chain, simulator, tmp_path):
    parameters = {"LANES": lanes, "OC_TILE": oc_tile, "GAP": gap, "CHAIN": chain}
    Simulation(simulator, "bench_dense", tmp_path, parameters).run("dense_bench")


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize(("lanes", "bus_bytes"), [(4, 8), (8, 8), (5, 8), (1, 4)])
def test_the_encoding_unit_has_the_lists_of_the_kernels(lanes, bus_bytes, simulator, tmp_path):
    parameters = {"LANES": lanes, "BUS_BYTES": bus_bytes, "DIGIT_DEPTH": 128, "POSITIONS": 32, "WORD_BITS": 7}
    Simulation(simulator, "encoding_unit", tmp_path, parameters).run("encoder_bench")


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_the_unit_from_codes_to_sums(simulator, tmp_path):
    """Encoders, lists, weights and three cores, by the generated header of a configuration."""
    config = HardwareConfig(
        board="pynq-z2",
        cores=3,
        lanes=4,
        oc_tile=4,
        clock_mhz=100,
        bus_bits=32,
        digit_depth=64,
        positions=32,
        weight_depth=64,
        accumulator_depth=16,
        weight_memory="bram",
    )
    write_header(config, tmp_path)
    simulation = Simulation(simulator, "compute_unit", tmp_path, {}, includes=[tmp_path])
    simulation.run("unit_bench", [f"+config={json.dumps(config.to_json())}"])


@pytest.mark.slow
def test_blocks_of_real_layers(tmp_path):
    """Sums of the C simulation, cycles within 2 % or 20 of the cycle model's, whose counts are those of ``profile``."""
    config, artefact = default_config("zcu104"), load().artefact
    cases = cases_of(artefact.graph.steps)
    assert len(cases) >= 30
    simulation = build(config, tmp_path / "simulation")
    replays = 0
    for recorded in record_cases(Recorder(config, tmp_path), config, artefact, cases):
        replayed = replay(simulation, config, recorded.recording)
        check_cycles(recorded, replayed)
        assert replayed.sums > 1_000
        replays += 1
    assert replays == len(cases)


def test_the_proof_says_what_is_missing(tmp_path):
    command = [sys.executable, "-m", "scripts.prove_hardware", "-o", str(tmp_path / "out")]
    result = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert result.returncode == 1 and "iverilog: apt-get install iverilog" in result.stderr, result.stderr
    assert not (tmp_path / "out").exists()
