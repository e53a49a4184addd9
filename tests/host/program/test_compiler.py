from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.artefact.model import QuantizedModel
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import Region
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program import compiler
from ditto_zynq.host.program.compiler import DoesNotFit, compile_program
from ditto_zynq.host.program.memory_map import ALIGNMENT
from ditto_zynq.host.runtime.session import Session

CONFIG = default_config("zcu104")


def test_a_batch_that_does_not_fit_says_which_would():
    build, graph = random_unet(3)
    limits = default_config("pynq-z2")
    with pytest.raises(DoesNotFit) as error:
        compile_program(graph, build.tables, limits, 60_000)
    message = str(error.value)
    assert "pynq-z2 has 128 MiB of contiguous memory; use a batch of at most " in message
    fitting = int(message.rsplit(" ", 1)[1])
    program = compile_program(graph, build.tables, limits, fitting)
    assert sum(program.sizes.values()) <= 128 << 20
    with pytest.raises(DoesNotFit):
        compile_program(graph, build.tables, limits, fitting + 1)
    assert program.sizes[Region.STATE] > 0


def test_an_empty_batch_is_refused():
    build, graph = random_unet(3)
    with pytest.raises(ValueError, match="found a batch of 0, expected at least 1"):
        compile_program(graph, build.tables, CONFIG, 0)


def test_without_history_there_is_no_state():
    """For flows that keep nothing: the same values in a fraction of the memory."""
    build, graph = random_unet(5)
    config = default_config("zcu104")
    with_history, without = (compile_program(graph, build.tables, config, 2, None, kept) for kept in (True, False))
    assert without.sizes[Region.STATE] == ALIGNMENT < with_history.sizes[Region.STATE]
    ones = {name: np.ones(graph.groups) for name in graph.tensors}
    artefact = QuantizedModel(graph, build.tables, ones, {}, {}, {})
    sample = build.codes(2).transpose(0, 3, 1, 2).astype(float)
    context = build.codes(2, "context").astype(float) if graph.context else None
    found = [
        Session(program, artefact, EmulatorDevice(config)).run_step(sample, 1, np.zeros(2, int), flow, context)
        for program in (with_history, without)
        for flow in ("original", "spatial")
    ]
    assert all(np.array_equal(each, found[0]) for each in found)


def test_what_descriptors_cannot_address_is_refused(monkeypatch):
    build, graph = random_unet(5)
    with pytest.raises(ValueError, match="found a batch of 65536, expected at least 1 and at most 65535"):
        compile_program(graph, build.tables, default_config("zcu104"), 1 << 16)
    monkeypatch.setattr(compiler, "ADDRESSABLE", 1 << 12)
    with pytest.raises(DoesNotFit, match=r"GiB of .*, but descriptors address"):
        compile_program(graph, build.tables, default_config("zcu104"), 2)
