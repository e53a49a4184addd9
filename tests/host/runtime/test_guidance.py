"""Classifier-free guidance, and costs under the conditions of calibration, of which it is one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner
from ditto_zynq.hls.artefact.model import load
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.operations import fitting
from ditto_zynq.host.runtime.guidance import Guidance
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.schedulers import standard_normal
from ditto_zynq.host.studies import paper_setting
from ditto_zynq.host.studies.compare import compare
from ditto_zynq.host.studies.similarity import measure
from ditto_zynq.host.studies.workload import Lender
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.quantize import Schedule, quantize

from tests.host.stock_pipelines import STEPS


def test_guidance_is_two_branches_of_one_group(folders):
    """The runtime's own guided denoising is what two batches, one of each branch, combine to."""
    _, quantized = folders("dit")
    artefact = load(quantized)
    model = Model(artefact, EmulatorDevice(default_config("zcu104"), differences=True))
    labels, indices = np.array([1, 2]), np.arange(2)
    guided = model.denoise(indices, labels, 0, guidance=Guidance(3.0, label=1000))
    sample, scheduler = None, model.scheduler
    branches = [Model(artefact, EmulatorDevice(default_config("zcu104"))) for _ in range(2)]
    sample = np.stack([standard_normal(0, index, 0, artefact.graph.sample_shape) for index in indices])
    for step, timestep in enumerate(artefact.timesteps):
        given = [
            branch.execute(sample, timestep, chosen)[:, :4]
            for branch, chosen in zip(branches, (labels.tolist(), [1000, 1000]), strict=True)
        ]
        sample = scheduler.step(given[1] + 3.0 * (given[0] - given[1]), step, sample)
    assert np.array_equal(guided.samples, sample)


@pytest.mark.parametrize("family", ["stable_diffusion", "latte"])
def test_costs_are_counted_under_the_conditions_of_calibration(folders, family):
    """Profile, compare and similarity run the calibration's prompts with its guidance."""
    artefact = load(folders(family)[1])
    config = fitting(default_config("zcu104"), artefact.graph)
    examples, graph = artefact.example_contexts, artefact.graph
    assert examples is not None and examples.shape[1:] == graph.context_shape
    model = Model(artefact, EmulatorDevice(config))
    counted = model.denoise_as_calibrated(2, 3)
    guidance = Guidance(artefact.quantization["guidance"], context=examples[-1])
    asked = model.denoise(np.arange(2), np.zeros(2, np.int64), 3, context=examples[:2], guidance=guidance)
    assert np.array_equal(counted.samples, asked.samples) and counted.record.samples == 2
    compared = compare(artefact, config, 1)
    assert (compared["images"], compared["batch"]) == (1, 2)
    single = model.denoise_as_calibrated(1).record.counters["cycles"].sum()
    [difference] = [design for design in compared["designs"] if design["name"] == "difference"]
    assert difference["cycles_per_image"] == single
    constant = model.session(2).program.facts.constant
    similarity = measure(artefact, config, 1)
    assert constant and set(similarity.names) == {node.name for node in graph.linear_nodes} - constant
    assert np.isfinite(paper_setting.compare(artefact, similarity, 100, False)["designs"][0]["ms_per_image"])
    lender = Lender(artefact, config, (1, STEPS - 1))
    before, now = lender.operands(graph, lender.lending[-1], lender.transitions[0])
    assert before[0].shape == now[0].shape == (4, *graph.tensors[lender.lending[-1].inputs[0]].shape)


def test_class_transformers_are_calibrated_and_counted_with_guidance(folders):
    """By default that of DiTPipeline, away from the label that stands for no class, which is not drawn itself."""
    artefact = load(folders("dit")[1])
    assert artefact.quantization["guidance"] == 4.0 and artefact.branches == 2
    model = Model(artefact, EmulatorDevice(default_config("zcu104")))
    asked = model.denoise(np.arange(3), np.array([1, 2, 1]), 3, guidance=Guidance(4.0, label=1000))
    counted = model.denoise_as_calibrated(3, 3)
    assert np.array_equal(counted.samples, asked.samples) and counted.record.samples == 3


def test_classes_without_the_null_label_are_drawn_without_guidance(folders, tmp_path):
    folder, _ = folders("dit")
    artefact = quantize(folder, tmp_path / "model", Schedule("ddim", 2, 0.0, 1), Options(2), [1, 2])
    assert artefact.quantization["guidance"] is None and artefact.branches == 1
    drawn = CliRunner().invoke(main, ["generate", str(tmp_path / "model"), "-n", "2", "-o", str(tmp_path / "x.png")])
    assert drawn.exit_code == 0, drawn.output


def test_a_model_without_examples_of_contexts_says_so(folders):
    artefact = dataclasses.replace(load(folders("stable_diffusion")[1]), examples=None)
    with pytest.raises(ValueError, match="has no examples of one; quantize it again"):
        Model(artefact, EmulatorDevice(default_config("zcu104"))).denoise_as_calibrated(1)
