"""A student learns what its teacher says, and goes on where it was interrupted."""

from __future__ import annotations

import copy
import signal

import pytest
import torch
from ditto_zynq.quant.prune.distill import DistillationRecipe, distill

from tests.quant.prune.models import inputs_of, unet

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = DistillationRecipe(steps=12, decay_steps=4, warmup_steps=1, batch=4, learning_rate=2e-3, ema=0.5)


def teacher_and_student():
    teacher = unet(norm_num_groups=4, block_out_channels=(8, 8))
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    return teacher, student


def draw(picked, generator):
    sample = torch.randn((len(picked), 2, 8, 8), generator=generator)
    return {"sample": sample, "timestep": picked * 10, "class_labels": picked % 3}


def taught(teacher, draw):
    def drawn(picked, generator):
        inputs = draw(picked, generator)
        with torch.no_grad():
            return inputs, teacher(**inputs).sample

    return drawn


def error(teacher, student):
    with torch.no_grad():
        inputs = inputs_of(teacher)
        return float((student(**inputs).sample - teacher(**inputs).sample).square().mean())


def test_the_student_comes_nearer(tmp_path):
    teacher, student = teacher_and_student()
    before = error(teacher, student)
    distill(student, RECIPE, taught(teacher, draw), 16, tmp_path)
    assert error(teacher, student) < 0.7 * before and not student.training


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path):
    teacher, student = teacher_and_student()
    distill(student, RECIPE, taught(teacher, draw), 16, tmp_path / "whole")
    _, other = teacher_and_student()
    calls = 0

    def interrupting(picked, generator):
        nonlocal calls
        calls += 1
        if calls == 5:
            signal.raise_signal(signal.SIGINT)
        return draw(picked, generator)

    with pytest.raises(KeyboardInterrupt):
        distill(other, RECIPE, taught(teacher, interrupting), 16, tmp_path / "parts")
    _, other = teacher_and_student()
    distill(other, RECIPE, taught(teacher, draw), 16, tmp_path / "parts")
    assert all(
        torch.equal(a, b) for a, b in zip(student.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_run_of_another_architecture_is_not_gone_on_with(tmp_path):
    teacher, student = teacher_and_student()
    distill(student, RECIPE, taught(teacher, draw), 16, tmp_path)
    other = DistillationRecipe(**{**RECIPE.__dict__, "architecture": "another"})
    with pytest.raises(ValueError, match="was trained with another architecture"):
        distill(student, other, taught(teacher, draw), 16, tmp_path)


def test_fewer_examples_than_a_batch(tmp_path):
    teacher, student = teacher_and_student()
    distill(student, RECIPE, taught(teacher, draw), 3, tmp_path)
