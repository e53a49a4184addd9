"""The emulator equals the reference in every bit, on every operator, backend, flow and step-group change."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.artefact import QuantizedModel
from ditto_zynq.hls.config import HardwareConfig, default_config
from ditto_zynq.hls.isa import CONFIG_HASH, COUNTER_NAMES, DESCRIPTOR_COUNT, Region
from ditto_zynq.hls.reference import Reference
from ditto_zynq.host import compiler
from ditto_zynq.host.compiler import compile_program
from ditto_zynq.host.device import DeviceError
from ditto_zynq.host.emulator import EmulatorDevice
from ditto_zynq.host.products import vnni_is_exact
from ditto_zynq.host.runtime import Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.random_graphs import GraphBuilder, random_unet

CONFIG = default_config("zcu104")
BACKENDS = ["float32", "numpy"] + (["vnni"] if vnni_is_exact() else [])
FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def session_of(build: GraphBuilder, graph, batch: int, device: EmulatorDevice) -> Session:
    ones = {name: np.ones(graph.groups) for name in graph.tensors}
    artefact = QuantizedModel(graph, build.tables, ones, {}, {}, {})
    return Session(compile_program(graph, build.tables, device.config, batch), artefact, device)


def run_both(build: GraphBuilder, graph, device: EmulatorDevice, flow: str, batch: int = 2):
    """Steps of the same run on both; yields (session, reference tensors) after each."""
    session = session_of(build, graph, batch, device)
    reference = Reference(graph, build.tables)
    codes = build.codes(batch)
    labels = build.random.integers(0, graph.labels, batch)
    for step in range(graph.steps):
        session.run_step(codes.transpose(0, 3, 1, 2).astype(np.float64), step, labels, flow)
        yield session, reference.step(codes, step, labels, temporal=flow == "difference")
        codes = build.next_codes(codes)


def assert_equal_everywhere(session: Session, expected: dict[str, np.ndarray]) -> None:
    for operation in session.program.operations:
        shape = session.program.graph.tensors[operation.name].shape
        found = session.codes(operation.name)
        wanted = expected[operation.name].reshape(len(found), *shape)
        assert np.array_equal(found, wanted), f"{operation.name} ({type(operation.first).__name__}) differs"


@pytest.fixture
def no_reuse(monkeypatch):
    """Give each tensor memory of its own, so that every intermediate result can be compared after a step."""

    def side_by_side(intervals, sizes):
        offsets, total = {}, 0
        for name in intervals:
            offsets[name] = total
            total = compiler.align(total + sizes[name])
        return offsets, total

    monkeypatch.setattr(compiler, "allocate", side_by_side)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("flow", ["original", "difference"])
@FUZZ
@given(seed=st.integers(0, 2**32 - 1))
def test_every_operator_equals_the_reference(no_reuse, backend, flow, seed):
    build, graph = random_unet(seed)
    device = EmulatorDevice(CONFIG, counting=False, differences=True, backend=backend)
    for session, expected in run_both(build, graph, device, flow):
        assert_equal_everywhere(session, expected)


@FUZZ
@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 5))
def test_shared_memory_keeps_the_output(seed, batch):
    """With memory reuse, and with the shortcut for differences, the output is still the reference's."""
    build, graph = random_unet(seed)
    for session, expected in run_both(build, graph, EmulatorDevice(CONFIG), "difference", batch):
        assert np.array_equal(session.codes(graph.output), expected[graph.output])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 513, 9 * 128 + 1])
def test_large_accumulators_stay_exact(no_reuse, backend, channels):
    """Full-range codes and weights at depths where float32 sums would round."""
    build = GraphBuilder(channels)
    source = build.input((3, 4, channels))
    output = build.convolution(source, 5, (3, 3), padding=(1, 1, 1, 1), extreme=True)
    graph = build.graph(output)
    device = EmulatorDevice(CONFIG, counting=False, differences=True, backend=backend)
    session, reference = session_of(build, graph, 1, device), Reference(graph, build.tables)
    for step, code in enumerate((127, -128, 127)):
        codes = np.full((1, 3, 4, channels), code, np.int8)
        session.run_step(codes.transpose(0, 3, 1, 2).astype(np.float64), step, np.zeros(1, np.int64), "difference")
        expected = reference.step(codes, step, temporal=True)
        assert_equal_everywhere(session, expected)


@FUZZ
@given(seed=st.integers(0, 2**32 - 1))
def test_counters_say_what_was_executed(seed):
    """Zeros, digits and products of the emulator are those of the reference's own differences."""
    build, graph = random_unet(seed)
    device = EmulatorDevice(CONFIG)
    previous: dict[str, np.ndarray] = {}
    for session, tensors in run_both(build, graph, device, "difference"):
        for record, operation in zip(session.counters(), session.program.operations, strict=True):
            node = operation.first
            if type(node).__name__ != "Convolution":
                continue
            codes = tensors[node.inputs[0]]
            difference = codes - previous.get(node.name, 0)
            previous[node.name] = codes
            narrow = (difference >= -16) & (difference <= 15)
            digits = np.where(difference == 0, 0, np.where(narrow | (difference & 15 == 0), 1, 2))
            assert record["elements"] == difference.size
            assert record["zeros"] == (difference == 0).sum()
            assert record["narrow"] == ((difference != 0) & (difference >= -8) & (difference <= 7)).sum()
            assert record["digits"] == digits.sum()
            ones = np.ones_like(build.tables[f"{node.name}.weight"], np.int64)
            used = Reference(graph, {**build.tables, f"{node.name}.weight": ones})._multiply(node, (digits,))
            assert record["products"] == used.sum()
            channels = graph.tensors[node.name].shape[2]
            tiles = -(-channels // CONFIG.oc_tile)
            fullest = np.ones(used.shape[:3], np.int64)
            for lane in range(CONFIG.lanes):
                mine = np.zeros_like(digits)
                mine[..., lane :: CONFIG.lanes] = digits[..., lane :: CONFIG.lanes]
                counted = Reference(graph, {**build.tables, f"{node.name}.weight": ones})._multiply(node, (mine,))
                fullest = np.maximum(fullest, counted[..., 0])
            assert record["compute_cycles"] == -(-int(fullest.sum()) * tiles // CONFIG.cores)


def test_bytes_are_those_of_the_tensors_moved():
    build = GraphBuilder(3)
    source = build.input((4, 5, 6))
    middle = build.convolution(source, 7, (3, 3), padding=(1, 1, 1, 1))
    graph = build.graph(build.group_norm(middle, 1))
    device = EmulatorDevice(CONFIG)
    runs = list(run_both(build, graph, device, "difference", batch=2))
    convolution, norm = runs[-1][0].counters()
    operand, result, weights = 2 * 4 * 5 * 6, 2 * 4 * 5 * 7, 7 * 9 * 6
    # the last step keeps nothing: operand and previous operand, previous accumulators, weights, bias and multiplier
    assert convolution["bytes_read"] == 2 * operand + 4 * result + weights + 2 * 4 * 7
    assert convolution["bytes_written"] == 2 * result
    assert norm["bytes_read"] == 2 * result + (4 + 8) * 7
    assert norm["bytes_written"] == 2 * result
    assert set(COUNTER_NAMES) >= {"cycles", "digits"}


def test_a_program_for_another_configuration_is_refused():
    build, graph = random_unet(0)
    other = HardwareConfig(cores=4)
    device = EmulatorDevice(CONFIG)
    artefact = QuantizedModel(graph, build.tables, {}, {}, {}, {})
    with pytest.raises(DeviceError, match=f"{CONFIG.register_hash:#010x}.*compile for the device"):
        Session(compile_program(graph, build.tables, other, 1), artefact, device)


def test_registers():
    device = EmulatorDevice(CONFIG)
    assert device.read_register(CONFIG_HASH) == CONFIG.register_hash
    device.write_register(CONFIG_HASH, 0)
    assert device.read_register(CONFIG_HASH) == CONFIG.register_hash, "the configuration hash is read-only"
    with pytest.raises(DeviceError, match="was not started"):
        device.wait(1.0)
    with pytest.raises(DeviceError, match="no buffer was allocated"):
        device.start()


def test_a_descriptor_outside_its_region_is_refused():
    build, graph = random_unet(1)
    device = EmulatorDevice(CONFIG)
    session = session_of(build, graph, 1, device)
    session.buffers[Region.PROGRAM].data[:] = 255
    session.buffers[Region.PROGRAM].flush()
    device.write_register(DESCRIPTOR_COUNT, 1)
    with pytest.raises(DeviceError):
        device.start()
