"""Which channels stay."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.quant.prune.clusters import cluster_kernels
from ditto_zynq.quant.prune.coverage import Structure, coverage
from ditto_zynq.quant.prune.criteria import CRITERIA, Filters, representatives


def filters_of(seed, sizes=((3, 9), (2, 1)), channels=12, structure=None, gradients=False):
    random = np.random.default_rng(seed)
    kernels = tuple(random.normal(size=(channels, *size)) for size in sizes)
    return Filters(kernels, structure or Structure.free(channels), kernels if gradients else None)


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_keeps_so_many_in_order_and_by_its_seed(name):
    filters = filters_of(0, structure=Structure.free(12, cells=2), gradients=True)
    kept = [CRITERIA[name](filters, 6, np.random.default_rng(seed)) for seed in (1, 1)]
    assert (kept[0] == kept[1]).all() and (np.diff(kept[0]) > 0).all() and (kept[0] < 6).sum() == 3


def test_l1_and_taylor_are_their_formulas():
    filters = filters_of(3, gradients=True)
    l1 = sum(np.abs(kernels).sum(axis=(1, 2)) for kernels in filters.kernels)
    taylor = sum((kernels**2).sum(axis=(1, 2)) for kernels in filters.kernels)
    random = np.random.default_rng(0)
    assert set(CRITERIA["l1"](filters, 5, random)) == set(np.argsort(-l1)[:5])
    assert set(CRITERIA["taylor"](filters, 5, random)) == set(np.argsort(-taylor)[:5])


def test_clusters_of_all_writers_count_and_each_has_its_own_height():
    """Of two layers that write the same channels, the one with larger kernels does not decide where the other one is cut."""
    filters = filters_of(5)
    large = Filters((filters.kernels[0] * 100, filters.kernels[1]), filters.structure)
    kept = [representatives(each, 4, np.random.default_rng(0)) for each in (filters, large)]
    assert (kept[0] == kept[1]).all()
    labels = [cluster_kernels(kernels, 4) for kernels in filters.kernels]
    joined = np.concatenate([labels[0], labels[1] + labels[0].max() + 1])
    chance = [coverage(joined, np.random.default_rng(seed).choice(12, 4, replace=False)) for seed in range(50)]
    assert coverage(joined, kept[0]) >= np.quantile(chance, 0.9)


def test_taylor_without_gradients():
    with pytest.raises(ValueError, match="found no gradients"):
        CRITERIA["taylor"](filters_of(0), 4, np.random.default_rng(0))
