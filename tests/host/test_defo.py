"""The Defo unit's table and decisions."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.config import default_config
from ditto_zynq.hls.isa import COUNTERS, SCALARS, Reference
from ditto_zynq.host import defo
from ditto_zynq.host.emulator import EmulatorDevice
from ditto_zynq.host.runtime import Model

LINEAR = np.array([True, True, True, True, False])


def test_the_cheaper_one_is_taken_and_unknown_ones_are_tried():
    records, asked = np.zeros(5, COUNTERS), np.zeros(5, SCALARS)
    asked["reference"], asked["keep_state"] = Reference.DEFO, 1
    records["original_cycles"] = [0, 10, 10, 10, 9]
    records["difference_cycles"] = [5, 0, 9, 10, 1]
    taken = defo.decide(records, asked, LINEAR)
    zero, previous = Reference.ZERO, Reference.PREVIOUS_STEP
    assert taken["reference"].tolist() == [zero, previous, previous, zero, Reference.DEFO]
    assert taken["keep_state"].tolist() == [0, 1, 1, 0, 1], "who refers to zero for good keeps nothing"
    assert asked["keep_state"].tolist() == [1] * 5
    records["cycles"] = [7, 8, 9, 2**40, 5]
    asked["reference"] = [Reference.ZERO, Reference.PREVIOUS_STEP, Reference.DEFO, Reference.ZERO, Reference.ZERO]
    defo.record(records, records["cycles"] - 1, asked, taken, LINEAR)
    assert records["original_cycles"].tolist() == [6, 10, 10, 2**32 - 1, 9]
    assert records["difference_cycles"].tolist() == [5, 8, 9, 10, 1]
    assert records["reference"].tolist() == [zero, previous, previous, zero, 0]


def test_a_run_settles_on_the_cheaper_reference(tiny_model):
    """After a step of either, every operator takes the one that took fewer cycles, until the end."""
    model = Model(tiny_model, EmulatorDevice(default_config("zcu104")))
    session = model.session(2)
    sample, labels = np.zeros((2, *tiny_model.graph.sample_shape)), np.zeros(2, np.int64)
    steps = []
    for step in range(tiny_model.graph.steps):
        session.run_step(sample + step, step, labels, "defo")
        steps.append(session.counters())
    linear = np.array([op.first in tiny_model.graph.linear_nodes for op in session.program.operations])
    original, difference = steps[-1]["original_cycles"], steps[1]["cycles"]
    assert np.all((original < steps[0]["cycles"])[linear]), "what keeping costs is no cost of reference zero"
    expected = np.where(difference < original, Reference.PREVIOUS_STEP, Reference.ZERO)[linear]
    for counters in steps[2:]:
        assert np.array_equal(counters["reference"][linear], expected)
    keeps = [int(counters["kept_beats"].sum()) for counters in steps]
    assert keeps[0] > 0 and keeps[-1] == 0, "nothing is kept by the last step"
