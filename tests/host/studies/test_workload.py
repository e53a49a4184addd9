"""Architectures without weights: the shapes are the real ones, and borrowed digits are counted as a run would count them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import COUNTER_NAMES
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.compiler import lay_out
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.session import DIFFERENCE, ORIGINAL, SPATIAL
from ditto_zynq.host.studies import workload
from ditto_zynq.host.studies.architectures import build
from ditto_zynq.host.studies.compare import compare_architecture, table
from ditto_zynq.host.studies.similarity import multiplications
from ditto_zynq.host.studies.workload import Lender, counters_of_flows

CONFIG = default_config("zcu104")


def test_a_model_lends_itself_what_it_has(tiny_model):
    """Borrowed by the same graph, counters are those of the run's step."""
    step, batch = 2, workload.LENT_SAMPLES
    program = lay_out(tiny_model.graph, tiny_model.tables, CONFIG, batch)
    counters = counters_of_flows(program, Lender(tiny_model, CONFIG, (step,), seed=5))
    for flow in (ORIGINAL, SPATIAL, DIFFERENCE):
        record = Model(tiny_model, EmulatorDevice(CONFIG)).generate(batch, None, 5, batch, flow, progress=False).record
        for name in COUNTER_NAMES:
            assert record.counters[step][name].tolist() == counters[flow][step][name].tolist(), (flow, name)


def test_operands_are_stretched_by_mirrors_and_repeated_channels(tiny_model):
    lender = Lender(tiny_model, CONFIG, (1,))
    codes = np.arange(2 * 2 * 3 * 4, dtype=np.int8).reshape(2, 2, 3, 4)
    found = lender._stretched(codes, (3, 5, 10))
    assert found.shape == (2, 3, 5, 10)
    assert np.array_equal(found[:, 2], found[:, 1]) and np.array_equal(found[:, :, 3], found[:, :, 2])
    assert np.array_equal(found[:, :2, :3, :4], codes)
    assert sorted(found[0, 0, 0, 4:8]) == sorted(codes[0, 0, 0]), "all channels again before any a third time"
    assert np.array_equal(lender._stretched(codes, (1, 2, 3)), codes[:, :1, :2, :3])
    with pytest.raises(ValueError, match=r"found steps \(0,\) to borrow digits of, expected some of 1 to"):
        Lender(tiny_model, CONFIG, (0,))


def test_a_comparison_of_an_architecture(tiny_model):
    data = compare_architecture("cifar10", tiny_model, CONFIG, images=2)
    designs = {design["name"]: design for design in data["designs"]}
    assert data["kind"] == "modelled" and data["architecture"]["name"] == "cifar10" and data["steps"] == 50
    memory = {name: design["dram_bytes_per_image"] for name, design in designs.items()}
    assert memory["digits"] == memory["diffy"] < memory["ditto+"] < memory["difference"]
    macs = sum(multiplications(build("cifar10")[1], node) for node in build("cifar10")[1].linear_nodes)
    floor = 50 * macs / (designs["itc"]["cores"] * CONFIG.lanes * CONFIG.oc_tile)
    assert floor < designs["itc"]["cycles_per_image"] < 3 * floor
    assert "with the digits of a smaller model's run" in table(data) and math.isfinite(designs["ditto"]["speedup"])
