"""The quantized denoiser's call: what means the same, and what must not get past it."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch
from ditto_zynq.hls.artefact.model import load
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.diffusers.drop_in import load_pipeline, wrap
from ditto_zynq.host.runtime.model import load as load_model
from ditto_zynq.host.runtime.session import DIFFERENCE, ORIGINAL

from tests.host.stock_pipelines import run

META = torch.zeros(2, 4, 32, 32, device="meta")


@pytest.fixture(scope="module")
def inputs_of(folders):
    """A denoiser, and what it takes."""
    denoiser = wrap(folders("stable_diffusion")[1])
    context = torch.zeros(2, 24, 32)
    sample, timestep = torch.zeros(2, 4, 32, 32), denoiser.artefact.timesteps[0]
    return denoiser, {"sample": sample, "timestep": timestep, "encoder_hidden_states": context}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"sample": [[1.0]]}, TypeError, "found a sample of type list, expected a torch.Tensor"),
        ({"sample": np.zeros((2, 4, 32, 32))}, TypeError, "found a sample of type ndarray, expected a torch.Tensor"),
        ({"sample": "x"}, TypeError, "found a sample of type str"),
        ({"sample": META}, ValueError, "found a sample on the meta device, expected a dense tensor"),
        ({"sample": torch.zeros(2, 4, 32, 32).to_sparse()}, ValueError, "found a sample of layout torch.sparse_coo"),
        (
            {"sample": torch.zeros(2, 4, 32, 32, dtype=torch.complex64)},
            ValueError,
            "found a sample of torch.complex64, expected",
        ),
        (
            {"sample": torch.zeros(2, 4, 32, 32, dtype=torch.bool)},
            ValueError,
            "found a sample of torch.bool, expected finite",
        ),
        (
            {"sample": torch.tensor(1.0)},
            ValueError,
            "found a sample of , but|found a sample of .*quantized for 4x32x32",
        ),
        ({"context": [[1.0]]}, TypeError, "found encoder_hidden_states of type list, expected a torch.Tensor"),
        ({"context": np.zeros((2, 24, 32))}, TypeError, "found encoder_hidden_states of type ndarray"),
        ({"context": META[:, 0, :24]}, ValueError, "found encoder_hidden_states on the meta device"),
        (
            {"context": torch.zeros(2, 24, 32).to(torch.complex64)},
            ValueError,
            "found encoder_hidden_states of torch.complex64",
        ),
        (
            {"context": torch.zeros(2, 24, 32) > 0},
            ValueError,
            "found encoder_hidden_states of torch.bool, expected finite",
        ),
        (
            {"context": torch.zeros(24, 32)},
            ValueError,
            r"found encoder_hidden_states of shape \(24, 32\), expected \(2, tokens",
        ),
        ({"timestep": "x"}, ValueError, "found timestep 'x', expected one of the schedule: 751, 501, 251, 1"),
        ({"timestep": [[751], [751, 1]]}, ValueError, "found timestep .* expected one of the schedule"),
        ({"timestep": 10**400}, ValueError, "found timestep 1000.*, expected one of the schedule"),
        ({"timestep": float("nan")}, ValueError, "found timestep nan, expected one of the schedule"),
        ({"timestep": torch.full((2,), torch.nan)}, ValueError, "found timestep nan, expected one of the schedule"),
        ({"timestep": float("inf")}, ValueError, "found timestep inf, expected one of the schedule"),
        ({"timestep": torch.tensor(1j)}, ValueError, "found timestep of torch.complex64, expected one of the schedule"),
        ({"timestep": True}, ValueError, "found timestep of torch.bool, expected one of the schedule"),
        (
            {"timestep": torch.zeros(2, device="meta")},
            ValueError,
            "found timestep a tensor on the meta device, expected one",
        ),
        ({"timestep": []}, ValueError, r"found timesteps \[\] in one batch, expected one"),
        ({"timestep": {}}, ValueError, r"found timestep \{\}, expected one of the schedule"),
        (
            {"encoder_attention_mask": [[1] * 24] * 2},
            TypeError,
            "found an encoder_attention_mask of type list, expected",
        ),
        ({"encoder_attention_mask": META[:, 0, 0]}, ValueError, "found an encoder_attention_mask on the meta device"),
        (
            {"encoder_attention_mask": torch.ones(2, 7)},
            ValueError,
            r"found a mask of shape \(2, 7\), expected \(2, 24\)",
        ),
        (
            {"attention_mask": META[:, 0, 0]},
            ValueError,
            "found attention_mask, which a quantized model does not support",
        ),
        ({"attention_mask": "x"}, ValueError, "found attention_mask, which a quantized model does not support"),
        (
            {"enable_temporal_attentions": torch.ones(2)},
            ValueError,
            "found enable_temporal_attentions, which a quantized",
        ),
        ({"timestep_cond": "x"}, ValueError, "found timestep_cond that the model was not quantized for; leave it out"),
        (
            {"added_cond_kwargs": 7},
            ValueError,
            "found added_cond_kwargs that the model was not quantized for; leave it out",
        ),
    ],
    ids=str,
)
def test_inputs_that_are_no_tensors_of_numbers(folders, inputs_of, given, error, message):
    denoiser, right = inputs_of
    given = {"encoder_hidden_states" if name == "context" else name: value for name, value in given.items()}
    with pytest.raises(error, match=message) as refused:
        denoiser(**(right | given))
    assert "\n" not in str(refused.value)


def test_inputs_of_any_form_that_means_the_same(inputs_of):
    denoiser, right = inputs_of
    time, expected = right["timestep"], denoiser(**right).sample
    for same in (torch.tensor([time, time]), np.array(time), [time], np.float32(time), torch.tensor(float(time))):
        assert torch.equal(denoiser(**(right | {"timestep": same})).sample, expected)
    gradients = right["sample"].clone().requires_grad_()
    assert torch.equal(denoiser(**(right | {"sample": gradients})).sample, expected)


def test_latents_of_another_type(folders):
    """A pipeline is of one type; latents of another one are named, and how to convert them."""
    _, quantized = folders("stable_diffusion")
    pipeline, latents = load_pipeline(quantized), torch.zeros(1, 4, 32, 32)
    for dtype in (torch.float16, torch.float64):
        with pytest.raises(
            ValueError, match=rf"found a sample of {dtype} with .* give the pipeline latents.to.torch.float32"
        ):
            run(pipeline, "stable_diffusion", latents=latents.to(dtype))
    denoiser, context = wrap(quantized), torch.zeros(1, 24, 32, dtype=torch.float16)
    assert denoiser(latents.half(), denoiser.artefact.timesteps[0], context).sample.dtype == torch.float16


@pytest.mark.parametrize(
    ("labels", "same"),
    [(1, [1, 1]), (torch.tensor(2), [2, 2]), (torch.tensor([[1], [2]]), [1, 2]), ([2, 1], [2, 1]), ([1], [1, 1])],
)
def test_labels_of_any_shape(folders, labels, same):
    denoiser = wrap(folders("dit")[1])
    sample, time = torch.ones(2, 4, 16, 16), denoiser.artefact.timesteps[0]
    expected = denoiser(sample, time, class_labels=torch.tensor(same)).sample
    assert torch.equal(denoiser(sample, time, class_labels=labels).sample, expected)
    foreign = (
        "1",
        ["1", "2"],
        [10**30, 1],
        [1.0, 2.0],
        np.array([1.0, 2.0]),
        torch.tensor([1j, 2]),
        {1: 2},
        [[1], [1, 2]],
        torch.ones(2, dtype=torch.int64, device="meta"),
        object(),
    )
    for wrong in ([1, 2, 1], torch.tensor([True, False]), [True, False], [], *foreign):
        with pytest.raises(
            ValueError, match=r"found .*class_labels .*expected as many as samples \(2\), or one, of integers"
        ):
            denoiser(sample, time, class_labels=wrong)
    assert torch.equal(denoiser(sample, time, class_labels=np.array(same)).sample, expected)


def test_bad_input_is_refused_in_one_line(folders):
    _, quantized = folders("stable_diffusion")
    denoiser = wrap(quantized)
    sample, context, first = torch.zeros(2, 4, 32, 32), torch.zeros(2, 24, 32), denoiser.artefact.timesteps[0]
    cases = (
        ((torch.zeros(2, 4, 64, 64), first, context), {}, "found a sample of 4x64x64, .* quantized for 4x32x32"),
        ((sample, 3, context), {}, "found timestep 3, expected one of the schedule: 751, 501, 251, 1"),
        ((sample, first, None), {}, r"found encoder_hidden_states of shape None, expected \(2, tokens, 32\)"),
        ((sample, first, context[:1]), {}, "expected .2, tokens, 32"),
        ((sample * float("nan"), first, context), {}, "found NaN or infinity in the sample"),
        ((sample.int(), first, context.int()), {}, r"found a sample of torch.int32, expected finite floating-point"),
        ((sample, first, context + float("inf")), {}, "found NaN or infinity in encoder_hidden_states"),
        ((sample, torch.tensor([first, 1]), context), {}, "found timesteps .* in one batch, expected one"),
        (
            (sample, first, context),
            {"encoder_attention_mask": sample},
            "found an encoder_attention_mask that is no .batch, tokens.",
        ),
        (
            (sample, first, context),
            {"down_block_additional_residuals": (sample,)},
            "found down_block_additional_residuals",
        ),
    )
    for given, more, message in cases:
        with pytest.raises(ValueError, match=message):
            denoiser(*given, **more)
    transformer = wrap(folders("dit")[1])
    small, time = torch.zeros(1, 4, 16, 16), transformer.artefact.timesteps[0]
    with pytest.raises(ValueError, match="found label 7, expected 1, 2, 1000"):
        transformer(small, time, class_labels=torch.tensor([7]))
    with pytest.raises(ValueError, match="found no class_labels, expected one per sample"):
        transformer(small, time)
    with pytest.raises(ValueError, match="found encoder_hidden_states, but the model attends to none"):
        transformer(small, time, context[:1], torch.tensor([1]))


def test_a_model_that_attends_needs_its_context(folders):
    model = load_model(folders("stable_diffusion")[1])
    sample, time = np.zeros((1, 4, 32, 32)), model.artefact.timesteps[0]
    for context, message in (
        (None, "found no context, expected one of shape"),
        (np.zeros((1, 24, 31)), r"found a context of shape \(1, 24, 31\), expected \(1, 24, 32\)"),
        ([["x"]], "found <U1 values in the context, expected finite real ones"),
        (np.full((1, 24, 32), np.nan), "found NaN or infinity in the context"),
    ):
        with pytest.raises(ValueError, match=message):
            model.execute(sample, time, context=context)


def test_a_run_may_begin_in_the_middle(folders):
    """Image to image: the first step asked for refers to nothing, the others to the one before."""
    _, quantized = folders("stable_diffusion")
    random = torch.Generator().manual_seed(0)
    samples = [torch.randn(2, 4, 32, 32, generator=random) for _ in range(3)]
    context = torch.randn(2, 24, 32, generator=random)
    config = default_config("zcu104")
    results = []
    for flow in (DIFFERENCE, ORIGINAL):
        denoiser = wrap(quantized, EmulatorDevice(config, differences=True), flow)
        times = denoiser.artefact.timesteps[1:]
        results.append([denoiser(x, t, context).sample for x, t in zip(samples, times, strict=True)])
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
def test_a_copy_is_another_denoiser_on_the_same_device(folders, way):
    """With a history of its own: their runs may be one beside the other. It cannot be pickled, nor its pipeline be saved so."""
    original = wrap(folders("stable_diffusion")[1], EmulatorDevice(default_config("zcu104"), differences=True))
    other = way(original)
    assert other is not original and other.model.device is original.model.device and other.flow == original.flow
    random = torch.Generator().manual_seed(0)
    samples, context = torch.randn(4, 1, 4, 32, 32, generator=random), torch.randn(1, 24, 32, generator=random)
    times = original.artefact.timesteps[:2]
    alone = [original(samples[step], times[step], context).sample for step in range(2)]
    for step in range(2):
        assert torch.equal(original(samples[step], times[step], context).sample, alone[step])
        assert not torch.equal(other(samples[2 + step], times[step], context).sample, alone[step])
    with pytest.raises(TypeError, match=r"is not pickled; wrap the folder that it was quantized to again"):
        pickle.dumps(original)


@pytest.mark.parametrize(
    "name", ["self", "kwargs", "keys", "get", "items", "update", "__class__", "_FrozenDict__frozen"]
)
def test_fields_of_a_configuration_that_python_has_names_for(folders, name):
    """They are no model's: left out, as diffusers does with fields that it does not know; of a scheduler too."""
    artefact = load(folders("dit")[1])
    other = dataclasses.replace(
        artefact, config={**artefact.config, name: 7}, scheduler={**artefact.scheduler, "unknown_field": 7}
    )
    denoiser = wrap(other)
    assert denoiser.config == wrap(artefact).config and name not in denoiser.config
    refused = dataclasses.replace(artefact, scheduler={**artefact.scheduler, name: 7})
    if name in ("self", "get", "items", "__class__"):  # diffusers itself cannot read it
        with pytest.raises(ValueError, match=r"DDIMScheduler of diffusers .* does not (take|run) the model's") as error:
            wrap(refused)
        assert "\n" not in str(error.value)
    else:
        wrap(refused)
