"""Greedy coverage against the best choice, found by trying all."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from ditto_zynq.quant.prune.clusters import cluster_kernels
from ditto_zynq.quant.prune.coverage import Structure, best_of_cells, cover, coverage
from hypothesis import given, settings
from hypothesis import strategies as st


def random_labels(seed, filters, channels):
    random = np.random.default_rng(seed)
    labels = random.integers(0, random.integers(1, filters + 1, size=(channels, 1)), size=(channels, filters))
    return labels + np.arange(channels)[:, None] * filters


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.integers(2, 10), st.integers(1, 6), st.data())
def test_greedy_covers_enough_of_what_the_best_choice_does(seed, filters, channels, data):
    """At least ``1 - 1/e`` (Nemhauser, Wolsey, Fisher 1978)."""
    keep = data.draw(st.integers(1, filters))
    labels = random_labels(seed, filters, channels)
    kept = cover(labels, Structure.free(filters), keep, np.random.default_rng(seed))
    assert len(set(kept)) == keep and (np.sort(kept) == kept).all()
    best = max(coverage(labels, np.array(each)) for each in itertools.combinations(range(filters), keep))
    assert coverage(labels, kept) >= (1 - 1 / math.e) * best - 1e-12
    if keep == filters:
        assert coverage(labels, kept) == 1


def test_greedy_covers_more_than_chance_and_than_magnitude():
    """In the mean over 20 layers whose strong filters are alike."""
    found = {"greedy": [], "random": [], "magnitude": []}
    for seed in range(20):
        random = np.random.default_rng(seed)
        kernels = random.normal(size=(24, 6, 9))
        kernels[:12] = 2 * kernels[0] + 0.1 * random.normal(size=(12, 6, 9))
        labels, structure = cluster_kernels(kernels, 8), Structure.free(24)
        scores = np.abs(kernels).sum(axis=(1, 2))
        found["greedy"].append(coverage(labels, cover(labels, structure, 8, random)))
        found["random"].append(coverage(labels, best_of_cells(np.zeros(24), structure, 8, random)))
        found["magnitude"].append(coverage(labels, best_of_cells(scores, structure, 8, random)))
    means = {name: np.mean(values) for name, values in found.items()}
    assert means["greedy"] > means["random"] > means["magnitude"]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_of_equal_filters_one_is_taken_while_others_are_not_covered(seed, keep):
    kernels = np.random.default_rng(seed).normal(size=(9, 4, 9))
    kernels[7] = kernels[2]
    labels = cluster_kernels(kernels, 9)
    kept = cover(labels, Structure.free(9), keep, np.random.default_rng(seed))
    assert not {2, 7} <= set(kept.tolist())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(2, 1), (4, 1), (1, 3), (2, 2)]), st.data())
def test_units_stay_whole_and_cells_lose_alike(seed, shape, data):
    cells, unit = shape
    filters = 12
    quota = data.draw(st.integers(1, filters // (cells * unit)))
    labels = random_labels(seed, filters, 3)
    structure = Structure.free(filters, cells, unit)
    for kept in (
        cover(labels, structure, quota * cells * unit, np.random.default_rng(seed)),
        best_of_cells(np.arange(filters // unit) % 3, structure, quota * cells * unit, np.random.default_rng(seed)),
    ):
        assert np.bincount(kept // (filters // cells), minlength=cells).tolist() == [quota * unit] * cells
        assert (kept.reshape(-1, unit) == kept[::unit, None] + np.arange(unit)).all() and (
            kept[::unit] % unit == 0
        ).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_a_unit_that_covers_a_cluster_twice_counts_it_once(seed):
    """The first choice is the unit with most different clusters."""
    labels = random_labels(seed, 12, 3)
    structure = Structure.free(12, unit=3)
    kept = cover(labels, structure, 3, np.random.default_rng(seed))
    most = max(len(np.unique(labels[:, unit])) for unit in structure.units)
    assert len(np.unique(labels[:, kept])) == most


def test_ties_are_broken_by_the_seed_alone():
    labels = np.zeros((1, 16), np.int64)
    choices = [tuple(cover(labels, Structure.free(16), 4, np.random.default_rng(seed))) for seed in (0, 0, 1, 2, 3)]
    assert choices[0] == choices[1] and len(set(choices)) > 2


@pytest.mark.parametrize(("keep", "structure"), [(0, (1, 1)), (6, (4, 1)), (5, (1, 2)), (4, (2, 4))])
def test_numbers_that_leave_cells_unequal(keep, structure):
    with pytest.raises(ValueError, match=f"found {keep} channels to keep, expected a multiple of"):
        cover(np.zeros((1, 16), np.int64), Structure.free(16, *structure), keep, np.random.default_rng(0))
