"""Whole denoising runs: reference = emulator, and images that depend on nothing but model, seed and label."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ditto_zynq.hls.contract.arithmetic import CODE_RANGE
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import Region
from ditto_zynq.host import load
from ditto_zynq.host.compute.products import vnni_is_exact
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.schedulers import standard_normal
from ditto_zynq.host.runtime.session import DIFFERENCE, FLOWS, ORIGINAL, default_flow, reference_of

BACKENDS = ["int16", "numpy"] + (["vnni"] if vnni_is_exact() else [])


def codes_of(model: Model, sample: np.ndarray, step: int) -> np.ndarray:
    """The host's rounding, written out: codes, then their residues in 16ths of a step."""
    graph = model.artefact.graph
    scale = model.artefact.scales[graph.input][graph.group_of_step[step]]
    steps = (sample / scale).transpose(0, 2, 3, 1)
    codes = np.clip(np.rint(steps), *CODE_RANGE)
    return np.concatenate([codes, np.clip(np.rint(16 * (steps - codes)), *CODE_RANGE)], axis=3)


def run_reference(model: Model, count: int, labels: np.ndarray, seed: int, flow: str) -> np.ndarray:
    """The denoising loop around the int64 reference, written out."""
    graph, scales = model.artefact.graph, model.artefact.scales
    reference = Interpreter(graph, model.artefact.tables)
    sample = np.stack([standard_normal(seed, index, 0, (3, 8, 8)) for index in range(count)])
    for step in range(graph.steps):
        group = graph.group_of_step[step]
        values = reference.step(codes_of(model, sample, step), step, labels, reference_of(flow, step))[graph.output]
        output = (values[..., :3] + values[..., 3:]).transpose(0, 3, 1, 2) * scales[graph.output][group]
        sample = model.scheduler.step(output, step, sample)
    return sample


@pytest.fixture(scope="module")
def expected(tiny_model):
    model = Model(tiny_model, EmulatorDevice(default_config("zcu104"), backend="numpy"))
    labels = np.array([0, 1, 2, 0, 1])
    return run_reference(model, 5, labels, 11, "difference")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("differences", [False, True])
def test_a_whole_run_equals_the_reference(tiny_folder, expected, backend, flow, differences):
    config = default_config("zcu104")
    model = load(tiny_folder, EmulatorDevice(config, backend=backend, differences=differences))
    for batch in (5, 2, 1):
        found = model.generate(5, [0, 1, 2], seed=11, batch=batch, flow=flow, progress=False)
        assert np.array_equal(found.samples, expected), f"batch {batch}"


def test_the_default_flow_keeps_nothing_where_nothing_is_counted(tiny_folder, expected):
    """It is the fastest on an emulator, and takes the least memory; images are the same. What counts takes differences."""
    for counting, flow in ((False, ORIGINAL), (True, DIFFERENCE)):
        model = load(tiny_folder, EmulatorDevice(default_config("zcu104"), counting=counting))
        images = model.generate(5, [0, 1, 2], seed=11, progress=False)
        assert np.array_equal(images.samples, expected) and default_flow(model.device) == flow
        program = model.session(5, history=False).program
        assert (program.sizes[Region.STATE] > 4096) == counting, f"memory of the flow {flow}"


def test_the_run_equals_without_torch_and_without_numba(tiny_folder, expected):
    """Other processes, where the accelerators cannot be imported: same bits."""
    code = (
        "import sys, hashlib; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in {blocked!r} else find(name, *a)\n"
        "from ditto_zynq.host import load\n"
        "model = load({folder!r})\n"
        "images = model.generate(5, [0, 1, 2], seed=11, batch=5, progress=False)\n"
        "print(model.device.backend, hashlib.sha256(images.samples.tobytes()).hexdigest())"
    )
    digest = hashlib.sha256(expected.tobytes()).hexdigest()
    for blocked, backend in ((("torch",), "int16"), (("torch", "numba"), "numpy")):
        script = code.format(blocked=blocked, folder=str(tiny_folder))
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.split() == [backend, digest]


@pytest.mark.slow
def test_the_bundled_model_equals_the_reference_until_its_scales_change():
    """Its real size, across a change of step group."""
    model = load()
    graph = model.artefact.graph
    changes = [i for i in range(1, graph.steps) if graph.group_of_step[i] != graph.group_of_step[i - 1]]
    session = model.session(2)
    reference = Interpreter(graph, model.artefact.tables)
    sample = np.stack([standard_normal(3, index, 0, (1, 28, 28)) for index in range(2)])
    labels = np.array([3, 8])
    for step in range(changes[0] + 1):
        codes = codes_of(model, sample, step)
        output = session.run_step(sample, step, labels, "difference")
        values = reference.step(codes, step, labels, reference_of("difference", step))[graph.output]
        assert np.array_equal(session.codes(graph.output), values), f"step {step}"
        sample = model.scheduler.step(output, step, sample)


def test_a_rule_that_is_not_that_of_the_numpy_sampler_is_refused(tiny_model):
    """As of a release of diffusers whose DDIM steps in another way: before anything runs."""
    rule = tiny_model.quantization["rule"]
    other = {"diffusers": "9.9.9", "response": [*rule["response"][:-1], rule["response"][-1] + 0.01]}
    assert Model(tiny_model, EmulatorDevice(default_config("zcu104"))).scheduler.timesteps[0] == tiny_model.timesteps[0]
    changed = replace(tiny_model, quantization=tiny_model.quantization | {"rule": other})
    with pytest.raises(
        ValueError, match=r"step 5 of this ddim schedule makes .* in diffusers 9\.9\.9, for which the model"
    ):
        Model(changed, EmulatorDevice(default_config("zcu104"))).generate(1, progress=False)
    older = {key: value for key, value in tiny_model.quantization.items() if key != "rule"}
    assert len(Model(replace(tiny_model, quantization=older), EmulatorDevice(default_config("zcu104"))).scheduler) == 6


@pytest.mark.parametrize(
    ("factor", "message"), [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (1j, "complex numbers")]
)
def test_numbers_that_codes_would_hide_are_refused(tiny_model, factor, message):
    with Model(tiny_model, EmulatorDevice(default_config("zcu104"))) as model:
        sample = factor * np.ones((1, *tiny_model.graph.sample_shape))
        with pytest.raises(ValueError, match=f"found {message} in the sample, expected finite real ones"):
            model.execute(sample, tiny_model.timesteps[0], [0])


def test_counts_are_refused_before_anything_else(tiny_model):
    model = Model(tiny_model, EmulatorDevice(default_config("zcu104")))
    with pytest.raises(ValueError, match="found -1 images"):
        model.generate(-1)


def test_single_evaluations_follow_the_schedule(tiny_folder):
    model = load(tiny_folder)
    sample = standard_normal(0, 0, 0, (2, 3, 8, 8))
    session_output = model.session(2).run_step(sample, 2, np.array([1, 2]), "original")
    assert np.array_equal(model.execute(sample, model.artefact.timesteps[2], [1, 2]), session_output)
    known = ", ".join(map(str, model.artefact.timesteps))
    with pytest.raises(ValueError, match=f"found timestep 999, expected one of the schedule: {known}"):
        model.execute(sample, 999)


def test_bad_requests_are_refused(tiny_folder):
    model = load(tiny_folder)
    with pytest.raises(ValueError, match="found label 3, expected 0 to 2"):
        model.generate(2, [0, 3], progress=False)
    with pytest.raises(ValueError, match="found execution flow 'sideways', expected one of original, difference"):
        model.generate(2, flow="sideways", progress=False)
    with pytest.raises(ValueError, match="found 0 images"):
        model.generate(0, progress=False)
