"""How many channels every layer keeps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ditto_zynq.quant.prune.allocation import Grain, Width, allocate
from hypothesis import given, settings
from hypothesis import strategies as st


def square(kept):
    """Multiplications of layers in a row."""
    sizes = list(kept.values())
    return sum(a * b for a, b in itertools.pairwise(sizes))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_at_most_so_many_multiplications_are_left_and_a_larger_quantile_would_leave_fewer(seed, share):
    random = np.random.default_rng(seed)
    widths = [Width(f"{index}", 64, 1, random.gamma(2, size=64)) for index in range(4)]
    most = max(int(share * square({width.name: 64 for width in widths})), 3)
    kept = allocate(widths, square, most)
    assert square(kept) <= most
    every = np.sort(np.concatenate([width.scales for width in widths]))
    thresholds = [threshold for threshold in every if square({w.name: w.at(threshold, 1, 0) for w in widths}) <= most]
    best = max(square({w.name: w.at(threshold, 1, 0) for w in widths}) for threshold in thresholds)
    assert square(kept) >= 0.93 * best, "the smallest such quantile, as far as a search of 12 halvings goes"


def test_a_layer_of_small_scales_loses_more_and_one_without_scales_the_network_s_share():
    widths = [
        Width("small", 64, 8, np.linspace(0.1, 1.0, 64)),
        Width("large", 64, 8, np.linspace(1.0, 2.0, 64)),
        Width("none", 64, 8, np.zeros(0)),
    ]
    kept = allocate(widths, lambda kept: sum(kept.values()), 96)
    assert kept == {"small": 8, "large": 56, "none": 32}


def test_the_numbers_of_a_target_that_is_out_of_reach():
    widths = [Width("a", 64, 16, np.ones(64)), Width("b", 32, 32, np.ones(32))]
    with pytest.raises(
        ValueError, match=r"found 48 multiplications .* fewest channels \(a: 16 of 64\), expected at most 40"
    ):
        allocate(widths, lambda kept: sum(kept.values()), 40)


def test_a_network_without_scales():
    with pytest.raises(ValueError, match="found no norm with scales"):
        allocate([Width("a", 64, 16, np.zeros(0))], square, 40)


@pytest.mark.parametrize(
    ("size", "least", "step"),
    [(128, 8, 32), (64, 8, 32), (32, 8, 8), (24, 8, 8), (96, 32, 32), (48, 16, 16), (20, 1, 1)],
)
def test_layers_keep_whole_tiles_and_smaller_ones_whole_words(size, least, step):
    assert Grain(tile=32, lanes=8).of(size, least) == step
