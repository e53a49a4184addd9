"""The comparison: the dense baseline is counted by hand, Defo is never worse than either plus its warm-up, energies add up."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from ditto_zynq.hls.artefact.model import save
from ditto_zynq.hls.contract.arithmetic import count_digits
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import Opcode
from ditto_zynq.hls.machine.primitives import Resources
from ditto_zynq.hls.machine.resources import USABLE, available, dense_parts, largest_dense
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.costs.cycles import CycleModel
from ditto_zynq.host.costs.energy import energy
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.runtime.model import BUNDLED_MODEL, Model
from ditto_zynq.host.studies.compare import WARM_UP, check_schedules, compare
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.quantize import quantize_denoiser

from tests.host.runs import session_of
from tests.pipelines import unet2d

CONFIG = default_config("zcu104")


def test_a_dense_convolution_by_hand():
    """4 x 6 pixels, 20 channels, 3 x 3 taps, 40 outputs: 3 words of 8 lanes, 2 tiles, and nothing is skipped."""
    build = GraphBuilder(0)
    graph = build.graph(build.convolution(build.input((4, 6, 20)), 40, (3, 3), padding=(1, 1, 1, 1)))
    program = compile_program(graph, build.tables, CONFIG, 2)
    (record,) = CycleModel(CONFIG, program.descriptors).dense()
    assert record["compute_cycles"] == 2 * 24 * 9 * 3 * 2
    assert record["dense_products"] == 2 * 24 * 9 * 20 * 64
    assert (
        record["previous_beats"] == record["kept_beats"] == record["accumulator_write_beats"] == record["digits"] == 0
    )
    blocks = 2 * -(-4 // int(program.descriptors[0]["block_rows"]))
    assert record["cycles"] >= record["compute_cycles"] / min(CONFIG.cores, blocks)


@pytest.mark.parametrize("board", ["zcu104", "kv260", "pynq-z2"])
def test_the_dense_array_uses_what_fits(board):
    config = default_config(board)
    cores = largest_dense(config)
    assert cores >= config.cores, "without queues at least as many multipliers fit"
    there = available(BOARDS[board])
    for count, fits in ((cores, True), (cores + 1, False)):
        used = sum(dense_parts(config.modelled(cores=count)).values(), Resources())
        assert all(getattr(used, name) <= USABLE[name] * getattr(there, name) for name in USABLE) == fits


@pytest.mark.parametrize("bandwidth", [1.0, None])
@pytest.mark.parametrize("board", BOARDS)
def test_defo_takes_at_most_its_warm_up_and_the_cheaper_flow(tiny_model, board, bandwidth):
    config, totals = replace(default_config(board), dram_gb_per_s=bandwidth), {}
    for flow in ("original", "difference", "defo"):
        record = Model(tiny_model, EmulatorDevice(config)).generate(4, None, 0, 4, flow, progress=False).record
        totals[flow] = record.counters["cycles"].astype(np.int64)
    warm_up = totals["defo"][:WARM_UP].sum()
    assert totals["defo"].sum() <= warm_up + min(totals["original"].sum(), totals["difference"].sum())


def test_the_result(tiny_model):
    data = compare(tiny_model, CONFIG, batch=2)
    designs = {design["name"]: design for design in data["designs"]}
    assert list(designs) == ["itc", "itc-same", "cambricon-d", "digits", "diffy", "difference", "ditto", "ditto+"]
    assert designs["itc"]["speedup"] == 1
    assert designs["itc"]["cycles_per_image"] <= 1.02 * designs["itc-same"]["cycles_per_image"], (
        "rounds may suit fewer cores"
    )
    memory = {name: design["dram_bytes_per_image"] for name, design in designs.items()}
    assert memory["digits"] == memory["diffy"] < memory["ditto"] <= memory["difference"]
    assert memory["ditto+"] <= memory["difference"]
    found = data["statistics"]
    assert 0 < found["zero"] < found["fits_4_bits"] <= 1 and 0 <= found["defo_oracle_agreement"] <= 1
    assert found["bops_reduction"] == pytest.approx(found["zero"] + (found["fits_4_bits"] - found["zero"]) / 2)
    assert all(design["floor_cycles_per_image"] <= design["cycles_per_image"] for design in designs.values())
    json.dumps(data)


def test_the_floor_is_memory_or_multipliers(tiny_model):
    """All of a slow DRAM's time, or all that the dense array multiplies: 6 steps of 2 images on all cores."""
    slow, fast = (compare(tiny_model, replace(CONFIG, dram_gb_per_s=gb), batch=2)["designs"][0] for gb in (0.1, None))
    of_bytes = slow["dram_bytes_per_image"] * 1000 / replace(CONFIG, dram_gb_per_s=0.1).dram_bytes_per_kilocycle
    assert slow["floor_cycles_per_image"] == pytest.approx(of_bytes)
    config = CONFIG.modelled(cores=fast["cores"])
    program = compile_program(tiny_model.graph, tiny_model.tables, config, 2)
    multiplying = CycleModel(config, program.descriptors).dense()["compute_cycles"].sum() / fast["cores"]
    in_memory = fast["dram_bytes_per_image"] * 1000 / CONFIG.dram_bytes_per_kilocycle
    assert fast["multiplying_cycles_per_image"] == pytest.approx(6 * multiplying / 2)
    assert fast["floor_cycles_per_image"] == pytest.approx(max(6 * multiplying / 2, in_memory))


def test_spatial_differences_by_hand():
    """The digits of x[i] - x[i - stride] per row; of a 1 x 1 kernel with stride 1, of a block's pixels in turn."""
    for stride in (1, 2):
        build = GraphBuilder(stride)
        graph = build.graph(build.convolution(build.input((3, 7, 9)), 4, (1, 1), (1, stride)))
        session = session_of(build, graph, 2, EmulatorDevice(CONFIG))
        codes = build.codes(2)
        session.run_step(codes.transpose(0, 3, 1, 2).astype(np.float64), 0, np.zeros(2, np.int64), "spatial")
        rows = int(session.program.descriptors[0]["block_rows"])
        wide = codes.reshape(2, 3 // rows, rows * 7, 9) if stride == 1 else codes
        before = np.concatenate([np.zeros_like(wide[:, :, :stride]), wide[:, :, :-stride]], axis=2)
        difference = wide.astype(np.int64) - before
        assert session.counters()[0]["zeros"] == np.sum(difference == 0)
        assert session.counters()[0]["digits"] == count_digits(difference).sum()
        expected = Interpreter(graph, build.tables).step(codes, 0)[graph.output]
        assert np.array_equal(session.codes(graph.output), expected)


def test_cambricon_d_is_dense_and_keeps_values():
    """Dense products; accumulators of convolutions read and written; attention on codes."""
    build, graph = random_unet(3)
    program = compile_program(graph, build.tables, CONFIG, 2)
    dense, masked = (CycleModel(CONFIG, program.descriptors).dense(each) for each in (False, True))
    convolutions = program.descriptors["opcode"] == Opcode.CONVOLUTION
    assert np.array_equal(dense["compute_cycles"], masked["compute_cycles"])
    assert np.all(masked["accumulator_read_beats"][convolutions] > 0) and not masked["previous_beats"].any()
    assert np.array_equal(dense[~convolutions], masked[~convolutions])
    assert np.all(masked["cycles"][convolutions] >= dense["cycles"][convolutions])


def test_models_of_different_schedules_are_not_compared(tiny_model, tiny_folder, tmp_path):
    quantization = {**tiny_model.quantization, "timesteps": list(reversed(tiny_model.timesteps))}
    other = replace(tiny_model, quantization=quantization)
    with pytest.raises(
        ValueError, match=r"found models of different schedules \(a: 6 ddim steps, timesteps .*; b: .*\)"
    ):
        check_schedules({"a": tiny_model, "b": other})
    check_schedules({"a": tiny_model, "b": tiny_model})
    result = CliRunner().invoke(main, ["compare", str(tiny_folder), str(BUNDLED_MODEL)])
    assert result.exit_code == 1 and "found models of different schedules" in result.stderr


def test_energy():
    one = energy(1e6, 1.0, 1, 0)
    assert (
        one.products == pytest.approx(0.3) and one.weights == pytest.approx(1.25) and one.total == pytest.approx(1.55)
    )
    assert energy(1e6, 1.0, 10, 0).weights == pytest.approx(0.125)
    assert energy(1e6, 0.5, 1, 0).products == pytest.approx(0.15)
    assert energy(0, 1.0, 1, 8).dram == pytest.approx(1.3e-3)


def test_the_command(tiny_folder, tmp_path):
    path = tmp_path / "comparison.json"
    result = CliRunner().invoke(main, ["compare", str(tiny_folder), "--batch", "2", "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert "Cycles are emulated" in result.stdout and "Ditto, HPCA 2025" in result.stdout
    assert json.loads(path.read_text())["batch"] == 2
    result = CliRunner().invoke(
        main, ["compare", str(tiny_folder), "--batch", "2", "--bandwidths", "1,19.2", "-o", str(path)]
    )
    assert result.exit_code == 0 and "speedup over itc at the same bandwidth" in result.stdout, result.output
    slow, fast = json.loads(path.read_text())
    assert all(a["ms_per_image"] > b["ms_per_image"] for a, b in zip(slow["designs"], fast["designs"], strict=True))
    for bandwidths, message in (
        ("0", "expected GB/s above 0"),
        ("1,fast", "expected GB/s above 0"),
        ("99", "at most zcu104's"),
        ("-3", "expected GB/s above 0"),
    ):
        result = CliRunner().invoke(main, ["compare", str(tiny_folder), "--bandwidths", bandwidths])
        assert result.exit_code == 1 and message in result.stderr
    result = CliRunner().invoke(main, ["compare", str(tiny_folder), "--batch", "0"])
    assert result.exit_code == 2 and "0 is not in the range" in result.stderr


def test_a_model_of_one_step_has_costs_and_no_differences(tmp_path):
    model = quantize_denoiser(
        unet2d(), {}, Schedule("ddim", 1, 0.0, 1), Options(1, norm=0.0, correct_biases=False, fine=0)
    )
    save(model, tmp_path / "model")
    found = CliRunner().invoke(
        main, ["compare", str(tmp_path / "model"), "--batch", "1", "-o", str(tmp_path / "x.json")]
    )
    assert found.exit_code == 0 and "There is one step, so there are no differences between steps." in found.stdout
    data = json.loads((tmp_path / "x.json").read_text())
    assert data["statistics"] is None and all(design["ms_per_image"] > 0 for design in data["designs"])
    for options in (["--architecture", "cifar10"], ["--setting", "paper"]):
        refused = CliRunner().invoke(main, ["compare", str(tmp_path / "model"), *options])
        assert refused.exit_code == 1 and "found a schedule of 1 step, expected at least 2" in refused.stderr


def test_too_many_samples_of_an_architecture_are_refused(tiny_folder):
    found = CliRunner().invoke(main, ["compare", str(tiny_folder), "--architecture", "cifar10", "--batch", "300"])
    assert found.exit_code == 1 and "found 300 images of an architecture, expected at most 256" in found.stderr
