"""Architectures by chance: the quantized model follows the float one, or it is refused in one line before any calibration."""

from __future__ import annotations

import re

import numpy as np
import torch
from diffusers import DDIMScheduler
from ditto_zynq.hls.config import default_config
from ditto_zynq.hls.reference import Reference
from ditto_zynq.host.diffusers import QuantizedDenoiser
from ditto_zynq.host.emulator import EmulatorDevice
from ditto_zynq.host.operations import fitting
from ditto_zynq.host.session import DIFFERENCE
from ditto_zynq.quant.calibrate import Options
from ditto_zynq.quant.quantize import Schedule, quantize_denoiser, sample_shape_of
from ditto_zynq.quant.traced import UnsupportedOperator

from tests.conftest import SCHEDULER_CONFIG
from tests.quant.architectures import BATCH, random_architecture

SCHEDULER = {
    **SCHEDULER_CONFIG,
    "steps_offset": 1,
    "clip_sample": False,
}  # ends at timestep 1: Fourier embeddings have no 0
STEPS = 2


def pytest_generate_tests(metafunc):
    metafunc.parametrize("seed", range(metafunc.config.getoption("--architectures")))


@torch.no_grad()
def test_a_random_architecture(seed):
    architecture = random_architecture(seed)
    model, given = architecture.model, architecture.given
    context = given.get("encoder_hidden_states")
    labels = sorted(set(given["class_labels"].tolist())) if "class_labels" in given else None
    try:
        quantized = quantize_denoiser(
            model,
            SCHEDULER,
            Schedule("ddim", STEPS, 0.0, 1),
            Options(BATCH, guidance=1.0, fine=1),
            labels,
            None if context is None else (context, context),
        )
    except UnsupportedOperator as error:
        assert architecture.refused, f"{error}\n{architecture.options}"
        assert re.search(r"found (class|addition)_embed_type|aten\.\w+.* in [\w.]+ on \[", str(error)), str(error)
        assert "\n" not in str(error)
        return
    assert not architecture.refused, architecture.options
    graph = quantized.graph
    denoiser = QuantizedDenoiser(quantized, EmulatorDevice(fitting(default_config("zcu104"), graph)), DIFFERENCE, 60.0)
    reference, scheduler = Reference(graph, quantized.tables), DDIMScheduler.from_config(SCHEDULER)
    scheduler.set_timesteps(STEPS)
    sample = torch.randn(BATCH, *sample_shape_of(model), generator=torch.Generator().manual_seed(seed))
    stored = None
    if graph.context is not None and context is not None:
        stored = graph.encode_context(context.double().numpy(), quantized.scales[graph.context][0])
    for step, timestep in enumerate(scheduler.timesteps):
        times = torch.full((BATCH,), int(timestep))
        expected = model(**{architecture.sample_argument: sample}, timestep=times, **given).sample
        found = denoiser(**{architecture.sample_argument: sample}, timestep=timestep, **given).sample
        for exact, image in zip(expected, found, strict=True):
            cosine = torch.nn.functional.cosine_similarity(image.flatten(), exact.flatten(), dim=0)
            assert cosine > 0.98, f"step {step}: {cosine:.4f} of {architecture.options}"
        codes = graph.encode(sample.double().numpy(), quantized.scales[graph.input][0])
        rows = given["class_labels"].numpy() if "class_labels" in given else None
        values = reference.step(codes, step, rows, context=stored)[graph.output]
        integers = graph.decode(values, quantized.scales[graph.output][0])
        assert np.array_equal(torch.from_numpy(integers).float().numpy(), found.numpy()), (
            "the emulator is the reference"
        )
        sample = scheduler.step(expected[:, : sample.shape[1]], int(timestep), sample).prev_sample
