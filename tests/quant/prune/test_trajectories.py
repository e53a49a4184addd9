"""Denoising runs that a pruned model learns from."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from ditto_zynq.quant.prune.trajectories import Runs, record
from safetensors.torch import save_file

from tests.quant.prune.models import unet


def make_scheduler():
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(3)
    return scheduler


def runs(branches=1, count=3):
    labels = torch.arange(count) % 3
    rows = torch.cat([labels] * branches)
    return Runs(
        {"class_labels": rows},
        count,
        branches,
        lambda output: output[: len(output) // branches],
        make_scheduler,
        (2, 8, 8),
    )


def test_examples_are_what_the_model_was_asked_and_what_it_said(tmp_path):
    model = unet()
    examples = record(model, runs(), tmp_path, batch=2)
    assert len(examples) == 9 and examples.timesteps.unique().tolist() == sorted(make_scheduler().timesteps.tolist())
    picked = torch.tensor([0, 4, 8])
    inputs, wanted = examples.draw(picked)
    with torch.no_grad():
        assert torch.allclose(model(**inputs).sample, wanted, atol=5e-3, rtol=5e-3), "kept as float16"


def test_runs_follow_the_scheduler(tmp_path):
    """By hand, the first run alone."""
    model, scheduler = unet(), make_scheduler()
    examples = record(model, runs(count=1), tmp_path)
    sample = torch.randn((2, 8, 8), generator=torch.Generator().manual_seed(0))[None]
    for step, timestep in enumerate(scheduler.timesteps):
        assert torch.allclose(examples.samples[step].float(), sample[0], atol=4e-3, rtol=4e-3)
        with torch.no_grad():
            output = model(sample, timestep, class_labels=torch.tensor([0])).sample
        sample = scheduler.step(output, timestep, sample).prev_sample


def test_a_file_that_is_damaged_is_named(tmp_path):
    model = unet()
    record(model, runs(), tmp_path, batch=2)
    path = tmp_path / "000000.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"000000\.safetensors cannot be read .*remove it, and it is recorded again"):
        record(model, runs(), tmp_path, batch=2)
    save_file({"others": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"does not have the examples of 2 runs"):
        record(model, runs(), tmp_path, batch=2)


def test_outputs_beyond_half_precision_are_kept_whole(tmp_path):
    model = unet()
    with torch.no_grad():
        model.conv_out.weight *= 1e6
    examples = record(model, runs(count=1), tmp_path)
    assert examples.outputs.dtype == torch.float32 and examples.outputs.abs().max() > 65_504


def test_finished_batches_are_not_run_again(tmp_path):
    first = record(unet(), runs(), tmp_path, batch=1)
    (tmp_path / "000001.safetensors").unlink()
    calls = 0

    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = unet()

        def forward(self, *arguments, **named):
            nonlocal calls
            calls += 1
            return self.model(*arguments, **named)

    again = record(Counting(), runs(), tmp_path, batch=1)
    assert calls == 3 and torch.equal(again.samples, first.samples) and torch.equal(again.outputs, first.outputs)


def test_both_branches_of_guidance_are_examples(tmp_path):
    examples = record(unet(), runs(branches=2), tmp_path)
    assert len(examples) == 18 and examples.rows.max() == 5
