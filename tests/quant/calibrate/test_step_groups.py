"""Step groups follow the size of the model's inputs where these jump, as at the first steps of a schedule of huge sigmas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.common.notices import PrecisionWarning
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.quant.calibrate.step_groups import group_steps, levels_of, warn_of_few_levels
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.pipeline.schedule import scheduler_for
from ditto_zynq.quant.quantize import quantize_denoiser

from tests.pipelines import unet2d

HUGE_SIGMAS = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
EVEN = (0, 0, 1, 1, 2, 2)


def test_even_groups_stay_where_inputs_are_alike():
    assert group_steps(EVEN, [1, 8, 1, 2, 9, 9]) == EVEN


@pytest.mark.parametrize(
    ("ranges", "groups"),
    [
        ([1, 1000, 1000, 1000, 1000, 1000], (0, 1, 1, 2, 2, 2)),  # the first alone, the rest halved
        ([1, 10, 100, 100, 100, 100], (0, 1, 2, 2, 2, 2)),
        ([100, 100, 100, 100, 100, 1], (0, 0, 1, 1, 1, 2)),
        ([0, 1, 1, 1, 1, 1], (0, 1, 1, 2, 2, 2)),
    ],
)
def test_a_step_of_other_size_has_a_group_of_its_own(ranges, groups):
    assert group_steps(EVEN, ranges) == groups


def test_there_are_never_more_groups_than_asked_for():
    """In floating point a quotient times its divisor may be less than the dividend."""
    assert group_steps((0, 0), [1024.0, 49.0]) == (0, 0)


def test_no_cut_is_better():
    """Against all cuts of random ranges into three groups."""
    random = np.random.default_rng(0)
    for _ in range(20):
        ranges = (10 ** random.uniform(0, 4, 7)).tolist()
        found = group_steps((0, 0, 0, 1, 1, 2, 2), ranges)
        spreads = [spread(cut, ranges) for cut in cuts(7, 3)]
        assert sorted(set(found)) == [0, 1, 2] and list(found) == sorted(found)
        assert spread(found, ranges) <= min(spreads) * 1.001 or spread((0, 0, 0, 1, 1, 2, 2), ranges) <= 8


def cuts(steps: int, groups: int) -> list[tuple[int, ...]]:
    if groups == 1:
        return [(0,) * steps]
    return [
        (*head, *(groups - 1,) * (steps - first))
        for first in range(groups - 1, steps)
        for head in cuts(first, groups - 1)
    ]


def spread(groups: tuple[int, ...], ranges: list[float]) -> float:
    return max(127 / level for level in levels_of(groups, ranges))


@pytest.mark.parametrize("kind", ["euler", "heun"])
def test_the_first_step_of_a_huge_sigma_is_computed(kind):
    """In one group with the next steps, whose inputs are 1,700 times as large, all its codes would be zero."""
    torch.manual_seed(0)
    unet, schedule = unet2d().eval(), Schedule(kind, 3, 0.0, 2)
    model = quantize_denoiser(unet, HUGE_SIGMAS, schedule, Options(2, 0.0, False, 0))
    scheduler, _ = scheduler_for(HUGE_SIGMAS, schedule)
    noise = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma
    sample = scheduler.scale_model_input(noise, scheduler.timesteps[0])
    codes = model.graph.encode(sample.double().numpy(), model.scales[model.graph.input][0])
    found = Interpreter(model.graph, model.tables).step(codes, 0, np.zeros(3, int))[model.graph.output]
    found = model.graph.decode(found, model.scales[model.graph.output][0])
    with torch.no_grad():
        expected = unet(sample, scheduler.timesteps[0]).sample.numpy()
    assert np.unique(codes[..., :3]).size > 64
    assert np.linalg.norm(found - expected) < 0.15 * np.linalg.norm(expected)


def test_too_few_groups_are_said_in_numbers():
    torch.manual_seed(0)
    with pytest.warns(
        PrecisionWarning, match=r"input of step 0 reaches 0\.0 of 127 codes: .* quantize with more --groups"
    ):
        quantize_denoiser(unet2d().eval(), HUGE_SIGMAS, Schedule("euler", 2, 0.0, 1), Options(2, 0.0, False, 0))


@pytest.mark.parametrize(("smallest", "message"), [(0.0, "step 1 reaches 0.0 of"), (0.2, "step 1 reaches 6.4 of")])
def test_the_largest_input_of_the_group_is_the_groups(smallest, message):
    with pytest.warns(PrecisionWarning, match=f"{message} 127 codes: .* those of its step group up to 4; quantize"):
        warn_of_few_levels([0, 0, 1], [4.0, smallest, 9.0])


def test_a_model_that_overflows_is_named_with_step_and_tensor():
    torch.manual_seed(0)
    unet = unet2d().eval()
    unet.conv_in.weight.data *= 1e38
    with pytest.raises(
        ValueError, match=r"step 0 \(timestep 800\): found NaN or infinity in down_blocks\.0\.resnets\.0\.norm1"
    ):
        quantize_denoiser(unet, {}, Schedule("ddim", 5, 0.0, 1), Options(2))


def test_the_full_range_and_all_else():
    """Without a search of thresholds the passes that follow see groups, not steps."""
    torch.manual_seed(0)
    model = quantize_denoiser(
        unet2d().eval(), {"num_train_timesteps": 1000}, Schedule("ddim", 3, 0.0, 1), Options(2, norm=0.0, fine=1)
    )
    assert model.graph.groups == 1 and model.graph.steps == 3
