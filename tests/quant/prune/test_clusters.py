"""Ward's clustering against its definition, and the one cut-off height of a layer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ditto_zynq.quant.prune.clusters import cluster_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage


def merge_costs(kernels):
    """The costs of all merges, by the definition: ``|A| |B| / (|A| + |B|) * ||mean A - mean B||^2``."""
    clusters, costs = [[index] for index in range(len(kernels))], []

    def cost(a, b):
        distance = kernels[a].mean(axis=0) - kernels[b].mean(axis=0)
        return len(a) * len(b) / (len(a) + len(b)) * float(distance @ distance)

    while len(clusters) > 1:
        first, second = min(itertools.combinations(clusters, 2), key=lambda both: cost(*both))
        costs.append(cost(first, second))
        clusters = [each for each in clusters if each not in (first, second)] + [first + second]
    return np.array(costs)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 12), st.sampled_from([1, 2, 9]), st.integers(0, 2**32 - 1))
def test_heights_are_the_definition_s(filters, taps, seed):
    """SciPy's height is the square root of twice the cost."""
    kernels = np.random.default_rng(seed).normal(size=(filters, taps))
    costs = merge_costs(kernels)
    assert np.allclose(linkage(kernels, "ward")[:, 2], np.sqrt(2 * costs), rtol=1e-9, atol=1e-9)
    assert (np.diff(costs) >= -1e-12).all(), "merging never gets cheaper"


def costs_of_channels(kernels):
    return [merge_costs(kernels[:, channel]) for channel in range(kernels.shape[1])]


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 10), st.integers(1, 5), st.data())
def test_all_channels_are_cut_at_the_height_of_the_most_diverse(filters, channels, data):
    keep = data.draw(st.integers(1, filters))
    kernels = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).normal(size=(filters, channels, 4))
    kernels *= np.geomspace(1, 3, channels)[:, None]
    labels = cluster_kernels(kernels, keep)
    counts = [len(np.unique(row)) for row in labels]
    assert labels.shape == (channels, filters) and max(counts) == keep
    costs = costs_of_channels(kernels)
    cut = max(each[filters - keep - 1] for each in costs) if keep < filters else -1.0
    assert counts == [filters - int((each <= cut * (1 + 1e-9)).sum()) for each in costs]
    assert sum(counts) == len(np.unique(labels)), "clusters of different channels have different numbers"


def test_equal_kernels_are_one_cluster():
    kernels = np.random.default_rng(0).normal(size=(6, 3, 9))
    kernels[4] = kernels[1]
    assert (cluster_kernels(kernels, 6)[:, 4] == cluster_kernels(kernels, 6)[:, 1]).all()


def test_one_filter_is_a_cluster_in_each_channel():
    assert cluster_kernels(np.ones((1, 3, 9)), 1).tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("keep", [0, 5])
def test_numbers_of_filters_that_there_are_not(keep):
    with pytest.raises(ValueError, match=f"found {keep} filters to keep, expected 1 to 4"):
        cluster_kernels(np.ones((4, 2, 9)), keep)


def test_kernels_that_are_not_finite():
    with pytest.raises(ValueError, match="found kernels that are not finite"):
        cluster_kernels(np.full((4, 2, 9), np.nan), 2)
