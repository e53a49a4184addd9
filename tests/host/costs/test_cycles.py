"""Cycles of small programs, counted on paper: loops that overlap, descriptors that are fetched, DRAM that is slow."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.hls.machine.isa import COUNTERS, SCALARS, Flag
from ditto_zynq.host.costs.cycles import CycleModel
from ditto_zynq.host.counting.digits import count_convolution
from ditto_zynq.host.program.compiler import lay_out

CONFIG = HardwareConfig()  # beats of 16 bytes, 76.8 bytes of DRAM a cycle
FETCH = 8 + 4  # beats of a descriptor and of its scalars
START = 64


def upsampled(copies: int = 1) -> np.ndarray:
    """Descriptors: 2 x 2 pixels of 20 codes, each ``copies`` times -> 4 x 4; an operation reads 8 beats and writes 32."""
    build = GraphBuilder(0)
    source = build.input((2, 2, 20))
    names = [build.upsample(source) for _ in range(copies)]
    return lay_out(build.graph(names[-1]), build.tables, CONFIG, 1).descriptors


def filled(model: CycleModel, scalars: np.ndarray, encoded: list) -> tuple[np.ndarray, np.ndarray]:
    records = np.zeros(len(scalars), COUNTERS)
    return records, model.fill(scalars, encoded, records)


def test_a_vector_operation_is_as_slow_as_its_slowest_loop_or_dram():
    descriptors, scalars = upsampled(), np.zeros(1, SCALARS)
    records, lean = filled(CycleModel(CONFIG, descriptors), scalars, [[]])
    found = {name: int(records[name][0]) for name in ("input_beats", "output_beats", "merged_beats", "parameter_beats")}
    assert found == {"input_beats": 8, "output_beats": 32, "merged_beats": 24, "parameter_beats": FETCH}
    assert records["cycles"].tolist() == lean.tolist() == [32 + FETCH + START]
    slow, _ = filled(CycleModel(HardwareConfig(dram_gb_per_s=1.0), descriptors), scalars, [[]])
    assert slow["cycles"].tolist() == [(8 + 32 + 24 + FETCH) * 16 // 4 + START], "4 bytes a cycle"
    scalars["skip"] = 1
    skipped, _ = filled(CycleModel(CONFIG, descriptors), scalars, [[]])
    assert skipped["cycles"].tolist() == [FETCH + START] and not skipped["output_beats"].any()


def test_the_second_of_a_pair_costs_what_it_adds():
    descriptors = upsampled(copies=2)
    descriptors["flags"][0] |= Flag.PAIRED
    records, _ = filled(CycleModel(CONFIG, descriptors), np.zeros(2, SCALARS), [[], []])
    assert records["cycles"].tolist() == [32 + FETCH + START, FETCH], "both at the same time"


def test_what_an_operation_would_take_that_kept_nothing():
    """4 pixels of 8 channels -> 32: 16 beats of weights, 4 cycles to encode, 4 to multiply and 18 to fill, then 4 * 4 beats of
    values or 4 * 8 of sums to keep."""
    build = GraphBuilder(0)
    graph = build.graph(build.convolution(build.input((1, 4, 8)), 32))
    model, scalars = CycleModel(CONFIG, lay_out(graph, build.tables, CONFIG, 1).descriptors), np.zeros(1, SCALARS)
    codes = np.ones((1, 1, 4, 8), np.int8)
    encoded = [[count_convolution(codes, None, (1, 1), (1, 1), (0,) * 4, CONFIG.lanes, 8)]]
    alone = 16 + 4 + 4 + 18 + 16 + (FETCH + 2) + START  # its entry of Defo's table is 2 beats
    scalars["keep_state"] = 1
    records, lean = filled(model, scalars, encoded)
    assert (records["cycles"].tolist(), lean.tolist()) == ([alone + 16], [alone])
    assert records["accumulator_write_beats"].tolist() == [32] and records["kept_beats"].tolist() == [2]
    assert model.dense()["cycles"].tolist() == [alone], "a digit of every code is a dense array's work"
    signs = model.dense(sign_mask=True)
    assert signs["cycles"].tolist() == [alone + 16]
    assert signs["accumulator_read_beats"].tolist() == signs["accumulator_write_beats"].tolist() == [32]
