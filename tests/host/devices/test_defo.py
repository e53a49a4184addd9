"""The Defo unit's table and decisions."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from ditto_zynq.hls.contract.references import Reference
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import COUNTERS, SCALARS
from ditto_zynq.host.devices import defo
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.session import FLOWS

LINEAR = np.array([True, True, True, True, False])
EACH = np.arange(5)  # everyone leads itself
ZERO, PREVIOUS, NEIGHBOUR = Reference.ZERO, Reference.PREVIOUS_STEP, Reference.NEIGHBOUR


def asking(reference: Reference, rescaled: int = 0) -> np.ndarray:
    asked = np.zeros(5, SCALARS)
    asked["reference"], asked["keep_state"], asked["rescaled"] = reference, 1, rescaled
    return asked


def test_the_cheapest_one_is_taken_and_unknown_ones_are_tried():
    records, asked = np.zeros(5, COUNTERS), asking(Reference.DEFO)
    records["original_cycles"] = [0, 10, 10, 10, 9]
    records["difference_cycles"] = [5, 0, 9, 10, 1]
    records["spatial_cycles"] = [1, 1, 8, 10, 1]
    taken = defo.decide(records, asked, LINEAR, EACH)
    assert taken["reference"].tolist() == [ZERO, PREVIOUS, PREVIOUS, ZERO, Reference.DEFO]
    assert taken["keep_state"].tolist() == [0, 1, 1, 0, 1], "who refers to zero for good keeps nothing"
    assert asked["keep_state"].tolist() == [1] * 5
    plus = defo.decide(records, asking(Reference.DEFO_PLUS), LINEAR, EACH)
    assert plus["reference"].tolist() == [ZERO, PREVIOUS, NEIGHBOUR, ZERO, Reference.DEFO_PLUS]
    assert plus["keep_state"].tolist() == [0, 1, 0, 0, 1]


def test_what_was_asked_for_is_recorded():
    records, asked = np.zeros(5, COUNTERS), asking(ZERO)
    records["cycles"] = [7, 8, 9, 2**40, 5]
    asked["reference"] = [ZERO, PREVIOUS, Reference.DEFO, NEIGHBOUR, ZERO]
    defo.record(records, records["cycles"].astype(np.int64) - 1, asked, asked, LINEAR, EACH)
    assert records["original_cycles"].tolist() == [6, 0, 0, 0, 0]
    assert records["keeping_cycles"].tolist() == [7, 0, 0, 0, 0]
    assert records["difference_cycles"].tolist() == [0, 8, 0, 0, 0]
    assert records["spatial_cycles"].tolist() == [0, 0, 0, 2**32 - 1, 0], "counts saturate"
    assert records["reference"].tolist() == [ZERO, PREVIOUS, Reference.DEFO, NEIGHBOUR, 0]


def test_a_change_of_scales_is_weighed_by_what_it_cost():
    """Wider differences are tried once; where reference zero is cheaper it is taken for that step, and keeps."""
    records = np.zeros(5, COUNTERS)
    records["original_cycles"], records["keeping_cycles"], records["difference_cycles"] = 10, 12, 8
    changed = asking(Reference.DEFO, rescaled=1)
    taken = defo.decide(records, changed, LINEAR, EACH)
    assert taken["reference"].tolist()[:4] == [PREVIOUS] * 4
    records["cycles"] = [11, 12, 13, 14, 15]
    defo.record(records, records["cycles"].astype(np.int64), changed, taken, LINEAR, EACH)
    assert records["rescaled_cycles"].tolist() == [11, 12, 13, 14, 0]
    assert records["difference_cycles"].tolist() == [8] * 5, "the ordinary cost stays"
    again = defo.decide(records, changed, LINEAR, EACH)
    assert again["reference"].tolist()[:4] == [PREVIOUS, PREVIOUS, ZERO, ZERO]
    assert again["keep_state"].tolist()[:4] == [1, 1, 1, 1]
    assert defo.decide(records, asking(Reference.DEFO), LINEAR, EACH)["reference"].tolist()[:4] == [PREVIOUS] * 4


def test_followers_count_and_decide_with_their_leader():
    leaders = np.array([0, 0, 2, 0, 4])
    records = np.zeros(5, COUNTERS)
    for reference, cycles in ((ZERO, [10, 10, 10, 1, 9]), (PREVIOUS, [20, 1, 9, 1, 9])):
        records["cycles"] = cycles
        asked = asking(reference)
        defo.record(records, records["cycles"].astype(np.int64), asked, asked, LINEAR, leaders)
    assert records["original_cycles"].tolist() == [21, 0, 10, 0, 0]
    assert records["difference_cycles"].tolist() == [22, 0, 9, 0, 0]
    taken = defo.decide(records, asking(Reference.DEFO), LINEAR, leaders)
    assert taken["reference"].tolist()[:4] == [ZERO, ZERO, PREVIOUS, ZERO]
    assert taken["keep_state"].tolist()[:4] == [0, 0, 1, 0]


def test_a_run_settles_on_the_cheaper_reference(tiny_model):
    """After a step of either, every operator takes the one that took fewer cycles, until the end."""
    model = Model(tiny_model, EmulatorDevice(default_config("zcu104")))
    session = model.session(2)
    sample, labels = np.zeros((2, *tiny_model.graph.sample_shape)), np.zeros(2, np.int64)
    steps = []
    for step in range(tiny_model.graph.steps):
        session.run_step(sample + step, step, labels, "defo")
        steps.append(session.counters())
    linear = np.array([op.is_linear for op in session.program.operations])
    table = steps[-1][linear]
    assert np.all(table["original_cycles"] < table["keeping_cycles"]), "what keeping costs is no cost of reference zero"
    expected = np.where(table["difference_cycles"] < table["original_cycles"], PREVIOUS, ZERO)
    groups = tiny_model.graph.group_of_step
    for step in range(2, len(steps)):
        found = steps[step]["reference"][linear]
        if groups[step] == groups[step - 1]:
            assert np.array_equal(found, expected)
        else:
            assert np.all((found == expected) | (found == ZERO))
    keeps = [int(counters["kept_beats"].sum()) for counters in steps]
    assert keeps[0] > 0 and keeps[-1] == 0, "nothing is kept by the last step"
    followers = [name for name in session.program.facts.leaders if "attention" in name or "to_" in name]
    assert followers, "queries, keys and values share an operand"


@pytest.mark.parametrize("board", ["zcu104", "pynq-z2"])
def test_all_flows_give_the_same_codes(tiny_model, board):
    """Hash of the final samples: original, difference, spatial, Defo, Defo+."""
    model = Model(tiny_model, EmulatorDevice(default_config(board), differences=True))
    digests = {
        hashlib.sha256(model.generate(2, [0, 1], 3, 2, flow, progress=False).samples.tobytes()).hexdigest()
        for flow in FLOWS
    }
    assert len(digests) == 1
