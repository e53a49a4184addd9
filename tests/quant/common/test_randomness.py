"""Generators by seed and number."""

from __future__ import annotations

import torch
from ditto_zynq.quant.common.options import LARGEST_SEED
from ditto_zynq.quant.common.randomness import generator_of


def test_numbers_depend_on_seed_and_index_alone():
    drawn = {
        (seed, index): torch.rand(1, generator=generator_of(seed, index)).item() for seed in (0, 1) for index in (0, 1)
    }
    assert len(set(drawn.values())) == 4
    assert torch.rand(1, generator=generator_of(1, 1)).item() == drawn[1, 1]


def test_the_largest_seed():
    assert generator_of(LARGEST_SEED, 7).initial_seed() == (LARGEST_SEED * 1_000_003 + 7) % 2**64
