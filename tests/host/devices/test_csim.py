"""The C simulation equals the reference and the emulator in every bit: random graphs, whole runs, the bundled model."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from click.testing import CliRunner
from ditto_zynq.hls.contract.operators import activation
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.hls.machine.isa import DESCRIPTOR_COUNT, ERROR, PROGRESS, Flag, Region
from ditto_zynq.hls.machine.plan import CannotPlan
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.common.errors import DeviceError
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program import operations
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.program.turns import take_turns
from ditto_zynq.host.runtime.agreement import compare
from ditto_zynq.host.runtime.model import Model, load
from ditto_zynq.host.runtime.session import FLOWS
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hls.configs import CONFIGS, SHIPPED, TINY
from tests.host.runs import assert_equal_everywhere, random_upsampling, run_both, session_of

pytestmark = pytest.mark.hls
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS)
def device(request, csim_cache) -> CSimDevice:
    return CSimDevice(request.param, cache=csim_cache)


@pytest.mark.parametrize("flow", FLOWS)
@settings(max_examples=12)
@given(seed=SEEDS, batch=st.integers(1, 5))
def test_every_operator_equals_the_reference(no_reuse, device, flow, seed, batch):
    """Also with weights of 4 bits in some layers."""
    build, graph = random_unet(seed, narrow_weights=bool(seed % 2))
    for session, expected in run_both(build, graph, device, flow, batch):
        assert_equal_everywhere(session, expected)


@pytest.mark.parametrize("flow", FLOWS)
@settings(max_examples=10)
@given(seed=SEEDS, batch=st.integers(1, 5))
def test_every_count_is_predicted(device, flow, seed, batch):
    """Loop iterations, beats, digits and cycles of the kernels are those of the emulator's model, every one, in every step;
    and so is the table of the Defo unit."""
    records = []
    for of in (device, EmulatorDevice(device.config)):
        build, graph = random_unet(seed, narrow_weights=bool(seed % 2))
        records.append([session.counters() for session, _ in run_both(build, graph, of, flow, batch)])
    for step, (counted, predicted) in enumerate(zip(*records, strict=True)):
        for name in counted.dtype.names:
            assert counted[name].tolist() == predicted[name].tolist(), f"step {step}: {name}"
    assert all(sum(int(record[name].sum()) for record in records[0]) for name in ("cycles", "digits", "output_beats"))


@settings(max_examples=20)
@given(seed=SEEDS, batch=st.integers(1, 3))
def test_upsampling_to_any_size(no_reuse, device, seed, batch):
    """By any factor, to sizes that the last copies do not fill: every bit, and every count as predicted."""
    records = []
    for of in (device, EmulatorDevice(device.config)):
        build, graph = random_upsampling(seed)
        records.append([])
        for session, expected in run_both(build, graph, of, "difference", batch):
            assert_equal_everywhere(session, expected)
            records[-1].append(session.counters().tolist())
    assert records[0] == records[1]


@pytest.fixture
def two_parts(monkeypatch):
    """Batches in two parts, whatever that costs."""
    monkeypatch.setattr(operations, "take_turns", lambda cycles, is_linear: (take_turns(cycles, is_linear)[0], 0.0))


@pytest.mark.parametrize("flow", ["difference", "defo+"])
@settings(max_examples=8)
@given(seed=SEEDS, batch=st.integers(2, 5))
def test_halves_of_a_batch_take_turns(device, two_parts, flow, seed, batch):
    """Paired operations: same bits in shared memory, every count of every descriptor predicted."""
    runs = []
    for of in (device, EmulatorDevice(device.config)):
        build, graph = random_unet(seed)
        runs.append([])
        for session, expected in run_both(build, graph, of, flow, batch):
            assert np.array_equal(session.codes(graph.output), expected[graph.output])
            runs[-1].append(session.counters())
        paired = session.program.descriptors["flags"] & Flag.PAIRED
        assert np.any(paired) and {int(d["batch"]) for d in session.program.descriptors} == {batch // 2, -(-batch // 2)}
    for counted, predicted in zip(*runs, strict=True):
        for name in counted.dtype.names:
            assert counted[name].tolist() == predicted[name].tolist(), name


@pytest.fixture
def one_part(monkeypatch):
    """Batches in one part, whatever it costs."""
    monkeypatch.setattr(operations, "take_turns", lambda cycles, is_linear: ([], float("inf")))


@settings(max_examples=10)
@given(seed=SEEDS, batch=st.integers(1, 4), groups=st.sampled_from([2, 4, 8]), conditional=st.booleans())
def test_channel_groups_overlap_without_harm(device, one_part, seed, batch, groups, conditional):
    """A convolution and the GroupNorm after it, interleaved by channel groups: same bits in shared memory, counts predicted."""
    parts = max(part for part in range(1, device.config.channel_groups + 1) if groups % part == 0 and 4 % part == 0)

    def build_graph():
        build = GraphBuilder(seed)
        wide = build.convolution(build.input((3, 4, 5)), 4 * device.config.oc_tile, (3, 3), padding=(1, 1, 1, 1))
        code = build.quantize(build.silu(build.group_norm(wide, groups, conditional)), fine=seed % 2 == 0)
        return build, build.graph(build.convolution(code, 3))

    runs = []
    for of in (device, EmulatorDevice(device.config)):
        build, graph = build_graph()
        runs.append(
            [
                (session.counters(), expected, session)
                for session, expected in run_both(build, graph, of, "difference", batch)
            ]
        )
        assert runs[-1][-1][2].program.descriptors["channel_groups"].tolist()[0] == parts > 1
        assert np.array_equal(runs[-1][-1][2].codes(graph.output), runs[-1][-1][1][graph.output])
    for (counted, *_), (predicted, *_) in zip(*runs, strict=True):
        assert counted.tolist() == predicted.tolist()


def test_all_flows_give_the_same_images(tiny_model, csim_cache):
    """Hash of the final samples of whole runs, on the C simulation and on the emulator."""
    devices = (CSimDevice(SHIPPED, cache=csim_cache), EmulatorDevice(SHIPPED, differences=True))
    digests = {
        hashlib.sha256(
            Model(tiny_model, of).generate(3, [0, 1], 3, 3, flow, progress=False).samples.tobytes()
        ).hexdigest()
        for of in devices
        for flow in FLOWS
    }
    assert len(digests) == 1


@pytest.mark.parametrize("config", [SHIPPED, TINY], ids=["zcu104", "tiny"])
@settings(max_examples=3)
@given(seed=SEEDS)
def test_exact_widths_equal_the_reference(no_reuse, csim_cache, config, seed):
    build, graph = random_unet(seed)
    device = CSimDevice(config, "bits", csim_cache)
    for session, expected in run_both(build, graph, device, "difference"):
        assert_equal_everywhere(session, expected)


@pytest.mark.parametrize("flow", ["difference", "spatial"])
@settings(max_examples=20)
@given(
    seed=SEEDS,
    batch=st.integers(1, 3),
    outputs=st.integers(1, 70),
    extreme=st.booleans(),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 90)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_convolutions_of_every_shape(device, flow, seed, batch, outputs, extreme, size, kernel, stride, padding):
    """More input channels than any buffer of the tiny configuration, strides, padding, saturating values, all references."""
    if size[0] + padding[0] + padding[1] < kernel[0] or size[1] + padding[2] + padding[3] < kernel[1]:
        return
    build = GraphBuilder(seed)
    graph = build.graph(build.convolution(build.input(size), outputs, kernel, stride, padding, extreme=extreme))
    try:
        runs = list(run_both(build, graph, device, flow, batch))
    except CannotPlan:
        assert device.config.positions < 64, "only the small buffers may refuse"
        return
    session, expected = runs[-1]
    assert np.array_equal(session.codes(graph.output), expected[graph.output])
    counted = session.counters()
    build = GraphBuilder(seed)
    build.convolution(build.input(size), outputs, kernel, stride, padding, extreme=extreme)
    emulated = list(run_both(build, graph, EmulatorDevice(device.config), flow, batch))[-1][0]
    assert counted.tolist() == emulated.counters().tolist()


def test_a_norm_of_more_than_65536_values(csim_cache):
    """Sums of 64 bits, in native types and in the hardware's own widths."""
    for types in ("native", "bits"):
        build = GraphBuilder(2, groups=1, steps=1)
        first = build.convolution(build.input((65, 64, 3)), 16)
        graph = build.graph(build.group_norm(first, 1))
        device = CSimDevice(CONFIGS["zcu104"], types, cache=csim_cache)
        for session, expected in run_both(build, graph, device, "original", 1):
            assert np.array_equal(session.codes(graph.output), expected[graph.output])


@pytest.mark.parametrize("change", ["none", "all"])
def test_differences_of_zero_and_of_full_range(device, change):
    build = GraphBuilder(1)
    graph = build.graph(build.convolution(build.input((4, 5, 20)), 9, (3, 3), padding=(1, 1, 1, 1)))
    session = session_of(build, graph, 2, device)
    emulated = session_of(build, graph, 2, EmulatorDevice(device.config))
    for step in range(graph.steps):
        code = 127 if change == "none" or step % 2 else -128
        sample = np.full((2, 20, 4, 5), float(code))
        found, expected = (s.run_step(sample, step, np.zeros(2, np.int64), "difference") for s in (session, emulated))
        assert np.array_equal(found, expected)


def test_a_whole_denoising_run_equals_the_emulator(tiny_model, device):
    """Six steps in three step groups, every sample's bits."""
    simulated = Model(tiny_model, device).generate(3, [0, 2], seed=5, batch=2, progress=False)
    emulated = Model(tiny_model, EmulatorDevice(device.config)).generate(3, [0, 2], seed=5, batch=2, progress=False)
    assert np.array_equal(simulated.samples, emulated.samples)


@pytest.mark.parametrize("types", ["native", "bits"])
def test_the_bundled_model_at_its_real_size(types, csim_cache):
    """Three full steps with differences: all tensors in memory, byte for byte."""
    simulated, emulated = load(None, CSimDevice(SHIPPED, types, csim_cache)), load(None, EmulatorDevice(SHIPPED))
    assert len(list(compare(simulated, emulated, steps=3, batch=2 if types == "native" else 1, seed=0))) == 3


def test_a_difference_is_found(tiny_model, csim_cache):
    device = CSimDevice(SHIPPED, cache=csim_cache)
    simulated, emulated = Model(tiny_model, device), Model(tiny_model, EmulatorDevice(SHIPPED))
    simulated.session(1).buffers[Region.WEIGHTS].data[0] ^= 1
    with pytest.raises(DeviceError, match=r"step 0: byte \d+ of ACTIVATIONS is \d+, in the emulator \d+"):
        list(compare(simulated, emulated, 1, 1, 0))
    with pytest.raises(ValueError, match="found 7 steps, expected 1 to 6"):
        list(compare(simulated, emulated, 7, 1, 0))


def test_what_the_device_refuses(csim_cache):
    build = GraphBuilder(0)
    graph = build.graph(build.convolution(build.input((4, 6, 20)), 40, (3, 3), padding=(1, 1, 1, 1)))
    device = CSimDevice(SHIPPED, cache=csim_cache)
    other = compile_program(graph, build.tables, HardwareConfig(cores=4), 1)
    session = session_of(build, graph, 1, device)
    with pytest.raises(DeviceError, match="compile for the device's configuration"):
        type(session)(other, session.artefact, device)
    session.buffers[Region.PROGRAM].data[:] = 255
    device.write_register(DESCRIPTOR_COUNT, 1)
    sample = np.zeros((1, *session.artefact.graph.sample_shape))
    device.start()
    assert device.read_register(ERROR) == device.read_register(PROGRESS) == 1
    device.write_register(DESCRIPTOR_COUNT, len(session.program.descriptors))
    with pytest.raises(DeviceError, match=r"step 0: csim refused descriptor 0 "):
        session.run_step(sample, 0, np.zeros(1, np.int64), "original")


def test_the_command(tiny_folder, monkeypatch, csim_cache):
    monkeypatch.setattr("ditto_zynq.hls.build.csim.default_cache", lambda: csim_cache)
    result = CliRunner().invoke(main, ["csim", str(tiny_folder), "--steps", "2"])
    assert result.exit_code == 0, result.output
    assert "2 steps, 2 samples, zcu104 configuration, native types: every bit equal" in result.stdout
    for options, code, message in (
        (["--steps", "0"], 2, "0 is not in the range"),
        (["--types", "float"], 1, "found C simulation types"),
    ):
        result = CliRunner().invoke(main, ["csim", str(tiny_folder), *options])
        assert result.exit_code == code and message in result.stderr


def test_buffers_that_are_too_small_are_refused(tiny_model):
    small = HardwareConfig(row_bytes=16, staging_depth=16)
    with pytest.raises(CannotPlan, match=r"has rows of \d+ bytes, but zcu104 has row_bytes = 16"):
        compile_program(tiny_model.graph, tiny_model.tables, small, 1)


@pytest.mark.parametrize("kind", activation.OPERATORS)
def test_every_activation(no_reuse, device, kind):
    """Alone, and fused between a norm and a quantizer."""
    build = GraphBuilder(1)
    wide = build.convolution(build.input((8, 6, 4)), 24)
    alone = build.activation(kind, wide)
    fused = build.quantize(build.activation(kind, build.group_norm(wide, 4)), fine=True)
    graph = build.graph(build.add(alone, build.convolution(fused, 24)))
    for session, expected in run_both(build, graph, device, "difference", 2):
        assert_equal_everywhere(session, expected)
