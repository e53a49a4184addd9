"""The emulator equals the reference in every bit, on every operator, backend, flow and step-group change."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.artefact.model import QuantizedModel
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.hls.machine.isa import CONFIG_HASH, CONTROL, DESCRIPTOR, DESCRIPTOR_COUNT, DONE, ERROR, Region
from ditto_zynq.host.common.errors import DeviceError
from ditto_zynq.host.compute.products import vnni_is_exact
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.runtime.session import FLOWS, Session, reference_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import compute_as_vnni
from tests.host.runs import CONFIG, assert_equal_everywhere, random_upsampling, run_both, session_of

BACKENDS = ["int16", "numpy", "vnni"]
FUZZ = settings(max_examples=25)


@pytest.fixture
def backend(request, monkeypatch) -> str:
    """By its name; without VNNI the code around it is what is tested."""
    if request.param == "vnni" and not vnni_is_exact():
        compute_as_vnni(monkeypatch)
    return request.param


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("flow", FLOWS)
@FUZZ
@given(seed=st.integers(0, 2**32 - 1))
def test_every_operator_equals_the_reference(no_reuse, backend, flow, seed):
    """Also with weights of 4 bits in some layers."""
    build, graph = random_unet(seed, narrow_weights=bool(seed % 2))
    device = EmulatorDevice(CONFIG, counting=False, differences=True, backend=backend)
    for session, expected in run_both(build, graph, device, flow):
        assert_equal_everywhere(session, expected)


@pytest.mark.parametrize("seed", range(6))
def test_the_code_around_vnni_runs_on_every_cpu(no_reuse, monkeypatch, seed):
    compute_as_vnni(monkeypatch)
    build, graph = random_unet(seed)
    device = EmulatorDevice(CONFIG, counting=False, differences=True, backend="vnni")
    for session, expected in run_both(build, graph, device, FLOWS[seed % len(FLOWS)]):
        assert_equal_everywhere(session, expected)


@FUZZ
@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 5))
def test_shared_memory_keeps_the_output(seed, batch):
    """With memory reuse, and with the shortcut for differences, the output is still the reference's."""
    build, graph = random_unet(seed)
    for session, expected in run_both(build, graph, EmulatorDevice(CONFIG), "difference", batch):
        assert np.array_equal(session.codes(graph.output), expected[graph.output])


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("channels", [1, 513, 9 * 128 + 1])
def test_large_accumulators_stay_exact(no_reuse, backend, channels):
    """Full-range codes and weights at depths where float32 sums would round."""
    build = GraphBuilder(channels)
    source = build.input((3, 4, channels))
    output = build.convolution(source, 5, (3, 3), padding=(1, 1, 1, 1), extreme=True)
    graph = build.graph(output)
    device = EmulatorDevice(CONFIG, counting=False, differences=True, backend=backend)
    session, reference = session_of(build, graph, 1, device), Interpreter(graph, build.tables)
    for step, code in enumerate((127, -128, 127)):
        codes = np.full((1, 3, 4, channels), code, np.int8)
        session.run_step(codes.transpose(0, 3, 1, 2).astype(np.float64), step, np.zeros(1, np.int64), "difference")
        expected = reference.step(codes, step, references=reference_of("difference", step))
        assert_equal_everywhere(session, expected)


def test_counters_of_a_convolution_by_hand():
    """16 channels of 4x4 pixels, 1x1 kernel, 32 outputs, 2 samples: every beat and cycle counted on paper."""
    build = GraphBuilder(3)
    source = build.input((4, 4, 16))
    graph = build.graph(build.convolution(source, 32))
    config = HardwareConfig(board="zcu102", cores=8, accumulator_depth=4, weight_memory="bram")  # a block is a row
    device = EmulatorDevice(config)
    session = session_of(build, graph, 2, device)
    labels = np.zeros(2, np.int64)
    session.run_step(np.full((2, 16, 4, 4), 17.0), 0, labels, "difference")  # 17 = 16 + 1: two digits
    (first,) = session.counters()
    assert first["elements"] == 2 * 256 and first["zeros"] == first["narrow"] == 0 and first["digits"] == 2 * 2 * 256
    assert first["products"] == 32 * first["digits"] == 2 * first["dense_products"]
    assert first["encode_cycles"] == 2 * 16 * 2, "pixels times words of 8 channels"
    assert first["compute_cycles"] == 2 * 16 * 4, "a lane has two channels of two digits"
    assert first["tap_cycles"] == 2 * 16 and first["vector_cycles"] == 2 * 16 * (1 + 4)
    assert first["weight_beats"] == 16 * 32 // 16 and first["input_beats"] == first["kept_beats"] == 2 * 16
    assert first["previous_beats"] == first["accumulator_read_beats"] == 0
    assert first["accumulator_write_beats"] == 2 * 16 * 8 and first["output_beats"] == 2 * 16 * 4
    # one round: weights, then encode, compute with its fill, finish; 14 beats of descriptor, scalars and table, and the start
    assert first["parameter_beats"] == 14 + 8 * (8 + 8)
    assert first["cycles"] == 32 + 32 + (4 * 4 + 18) + 256 + 14 + 64
    session.run_step(np.full((2, 16, 4, 4), 17.0), 1, labels, "difference")
    (second,) = session.counters()
    assert second["zeros"] == 512 and second["digits"] == second["products"] == 0
    assert second["compute_cycles"] == 2 * 16, "a pixel takes at least one cycle"
    assert second["previous_beats"] == 2 * 16 and second["accumulator_read_beats"] == 2 * 16 * 8


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
        device.wait(600)
    device.start()
    assert device.read_register(CONTROL) & DONE, "an empty program touches no memory"
    device.write_register(DESCRIPTOR_COUNT, 1)
    device.start()
    assert device.read_register(ERROR) == 1, "there is none"
    with pytest.raises(DeviceError, match="found pointers to PROGRAM that are no buffer's address"):
        device.region(Region.PROGRAM)
    with pytest.raises(DeviceError, match="found a buffer of 0 bytes, expected at least 1"):
        device.allocate(0)


def test_a_damaged_program_is_refused():
    build = GraphBuilder(0)
    graph = build.graph(build.convolution(build.input((4, 6, 20)), 40, (3, 3), padding=(1, 1, 1, 1)))
    device = EmulatorDevice(CONFIG)
    session = session_of(build, graph, 1, device)
    session.buffers[Region.PROGRAM].data.view(DESCRIPTOR)["input"][0] = 1 << 30
    session.buffers[Region.PROGRAM].flush()
    device.start()
    assert device.read_register(ERROR) == 1 and device.refusal.reason == "input inside ACTIVATIONS"
    session.buffers[Region.PROGRAM].data.view(DESCRIPTOR)["opcode"][0] = 99
    session.buffers[Region.PROGRAM].flush()
    device.start()
    assert device.read_register(ERROR) == 1
    sample = np.zeros((1, *session.artefact.graph.sample_shape))
    with pytest.raises(DeviceError, match=r"step 0: emulator refused descriptor 0 \(.*ditto-zynq build --board zcu104"):
        session.run_step(sample, 0, np.zeros(1, np.int64), "original")


@FUZZ
@given(seed=st.integers(0, 2**32 - 1))
def test_upsampling_to_any_size(no_reuse, seed):
    build, graph = random_upsampling(seed)
    for session, expected in run_both(build, graph, EmulatorDevice(CONFIG), "difference"):
        assert_equal_everywhere(session, expected)


def _softmax_of_a_slice(build: GraphBuilder, source: str) -> str:
    q, k, v = (build.convolution(source, 6, kind="code") for _ in range(3))
    logits = build.scores(q, k, 2)
    beside = build.concat(logits, build.add(logits, logits))
    mixed = build.mix(build.softmax(logits), v, 2, kind="value")
    return build.add(mixed, build.average_pool(build.convolution(build.quantize(beside), 6, (1, 1), (1, 2)), 1))


def test_an_operator_on_rows_that_are_parts_of_wider_ones():
    build = GraphBuilder(3)
    graph = build.graph(_softmax_of_a_slice(build, build.input((2, 16, 6))))
    for session, expected in run_both(build, graph, EmulatorDevice(CONFIG, counting=False), "difference"):
        found = session.codes(graph.output)
        assert np.array_equal(found, expected[graph.output].reshape(found.shape))
