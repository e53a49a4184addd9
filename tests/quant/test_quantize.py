"""Step-wise quantization: real Brevitas quantizers, tables that follow the steps, an integer graph that follows the float one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from ditto_zynq.hls.artefact.rule import check_rule
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.operators import Convolution, GroupNorm, SiLU
from ditto_zynq.hls.contract.tensor import CODE, VALUE
from ditto_zynq.quant.calibrate.calibration import Options, calibrate
from ditto_zynq.quant.calibrate.fine_parts import add_fine_ends
from ditto_zynq.quant.calibrate.lower import lower
from ditto_zynq.quant.calibrate.network import QUANTIZED
from ditto_zynq.quant.quantize import Schedule, quantize, quantize_denoiser
from ditto_zynq.quant.trace.tracing import trace

from tests.conftest import SCHEDULER_CONFIG

STEPS, GROUPS = 6, 3


@pytest.fixture(scope="module")
def calibrated(tiny_unet):
    scheduler = DDIMScheduler.from_config(SCHEDULER_CONFIG)
    scheduler.set_timesteps(STEPS)
    schedule = Schedule("ddim", STEPS, 0.0, GROUPS)
    traced = trace(tiny_unet, (3, 8, 8), scheduler.timesteps.tolist(), schedule.group_of_step())
    return calibrate(add_fine_ends(traced), scheduler, Options(trajectories=4, fine=2))


def test_weights_are_those_of_brevitas(calibrated):
    model, _ = calibrated
    integer = lower(model)
    for node in integer.graph.nodes:
        if isinstance(node, Convolution):
            quantized = model.weights[node.name.replace(".", "/")].quant_weight()
            weight = integer.tables[f"{node.name}.weight"]
            assert np.array_equal(weight, quantized.int().numpy().transpose(0, 2, 3, 1))
            assert weight.dtype == np.int8 and np.abs(weight.astype(int)).max() == 127, "narrow range, fully used"


def test_the_integer_graph_follows_the_fake_quantized_model(calibrated):
    """Codes agree up to the rounding of 16-bit values; the model's output up to a small part of its spread."""
    model, trajectories = calibrated
    integer = lower(model)
    reference = Interpreter(integer.graph, integer.tables)
    model.mode = QUANTIZED
    labels = trajectories.labels
    for step, sample in enumerate(trajectories.samples):
        group = integer.graph.group_of_step[step]
        codes = integer.graph.encode(sample.numpy(), integer.scales["sample"][group])
        tensors = reference.step(codes, step, labels.numpy())
        with torch.no_grad():
            expected = model(sample, step, labels).numpy()
        found = integer.graph.decode(tensors[integer.graph.output], integer.scales[integer.graph.output][group])
        assert np.abs(found - expected).mean() < 0.04 * expected.std()


def test_the_integer_model_follows_the_float_one(tiny_unet, calibrated):
    model, trajectories = calibrated
    integer = lower(model)
    reference = Interpreter(integer.graph, integer.tables)
    scheduler = DDIMScheduler.from_config(SCHEDULER_CONFIG)
    scheduler.set_timesteps(STEPS)
    for step, sample in enumerate(trajectories.samples):
        group = integer.graph.group_of_step[step]
        codes = integer.graph.encode(sample.numpy(), integer.scales["sample"][group])
        tensors = reference.step(codes, step, trajectories.labels.numpy())
        with torch.no_grad():
            expected = tiny_unet(sample, scheduler.timesteps[step], class_labels=trajectories.labels).sample
        found = integer.graph.decode(tensors[integer.graph.output], integer.scales[integer.graph.output][group])
        error = found - expected.numpy()
        assert np.linalg.norm(error) < 0.06 * np.linalg.norm(expected.numpy())
        for name, tensor in integer.graph.tensors.items():
            if tensor.kind == VALUE:
                assert np.abs(tensors[name]).max() < 32767, f"{name} saturates on its own calibration data"


def test_fixed_formats_and_shared_scales(calibrated):
    model, _ = calibrated
    integer = lower(model)
    for node in integer.graph.nodes:
        if isinstance(node, SiLU):
            for name in (node.inputs[0], node.name):
                assert np.array_equal(integer.scales[name], np.full(GROUPS, 2.0**-node.fraction_bits))
        if type(node).__name__ in ("Concat", "Upsample"):
            for source in node.inputs:
                assert np.array_equal(integer.scales[source], integer.scales[node.name])
        if isinstance(node, GroupNorm):
            assert np.abs(integer.tables[f"{node.name}.gain"].astype(np.int64)).max() < 2**21
    assert {tensor.kind for tensor in integer.graph.tensors.values()} == {CODE, VALUE}


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_schedulers_and_group_counts(tiny_unet, kind):
    model = quantize_denoiser(tiny_unet, SCHEDULER_CONFIG, Schedule(kind, 4, 0.0, 4), Options(2, 0.0, False, 0))
    assert model.graph.steps == 4 and model.graph.groups == 4
    assert model.quantization["scheduler"] == kind and len(model.timesteps) == 4


def test_eta_reaches_the_calibration(tiny_unet):
    still, noisy = (
        quantize_denoiser(tiny_unet, SCHEDULER_CONFIG, Schedule("ddim", 3, eta, 1), Options(2, 0.0, False, 0))
        for eta in (0.0, 1.0)
    )
    assert any(not np.array_equal(still.scales[name], noisy.scales[name]) for name in still.scales)
    assert noisy.quantization["eta"] == 1.0


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (("ddim", 10, 0.0, 11), "found 11 step groups, expected 1 to 10"),
        (("ddim", 10, 0.0, 0), "found step groups 0, expected a finite number from 1 on"),
        (("flow", 10), "found scheduler 'flow', expected one of ddpm, ddim, pndm, euler"),
        (("ddim", 0), "found steps 0, expected"),
        (("ddim", 2.5), "found steps 2.5, expected a whole number"),
        (("ddim", True), "found steps True, expected a whole number"),
        (("ddpm", 10, 0.5), "eta belongs to the ddim scheduler"),
        (("ddim", 10, -1.0), "found eta -1.0, expected 0 to 1"),
        (("ddim", 10, float("nan")), "found eta nan, expected 0 to 1"),
        (("ddim", 10, 1.5), "found eta 1.5, expected 0 to 1"),
    ],
)
def test_impossible_schedules_are_refused(schedule, message):
    with pytest.raises(ValueError, match=message):
        Schedule(*schedule)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"norm": float("nan")}, "found norm nan, expected 0 to 16"),
        ({"norm": -3.0}, "found norm -3.0, expected 0 to 16"),
        ({"trajectories": 0}, "found trajectories 0, expected a finite number from 1 on"),
        ({"fine": -1}, "found fine tensors -1, expected a finite number from 0 on"),
        ({"seed": -1}, "found seed -1, expected 0 to 9.22337e"),
        ({"seed": 2**64}, "found seed 18446744073709551616, expected"),
        ({"guidance": float("inf")}, "found guidance inf, expected 0 to 1000"),
        ({"guidance": -1.0}, "found guidance -1.0, expected 0 to 1000"),
    ],
)
def test_impossible_options_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        Options(**option)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"neither unet/config\.json nor transformer/config\.json; expected a diffusers"
    ):
        quantize(tmp_path, tmp_path / "out", Schedule(), Options())
    assert list(tmp_path.iterdir()) == []


def test_the_rule_of_the_schedule_is_recorded(tiny_model):
    check_rule(tiny_model.quantization, DDIMScheduler.from_config(SCHEDULER_CONFIG))
    assert len(tiny_model.quantization["rule"]["response"]) == len(tiny_model.timesteps)
