"""Clusters of kernels: Ward's agglomerative clustering, cut at one height per layer (REPrune, AAAI 2024, equations 3 to 5).

Merging clusters A and B costs ``|A| |B| / (|A| + |B|) * ||mean A - mean B||^2``; SciPy's height is the square root of twice that.
"""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage


def cluster_kernels(kernels: np.ndarray, keep: int) -> np.ndarray:
    """Clusters of a layer's kernels float [filters, input channels, taps], of which ``keep`` filters shall stay.

    Returns int64 [input channels, filters]: the cluster of each kernel, numbered through all input channels. The dendrogram of
    every input channel is cut at the largest of the heights at which they have ``keep`` clusters left: channels whose kernels are
    alike have fewer. ValueError for kernels that are not finite, or fewer than ``keep`` filters.
    """
    filters, channels, _ = kernels.shape
    if not 1 <= keep <= filters:
        raise ValueError(f"found {keep} filters to keep, expected 1 to {filters}")
    if not np.isfinite(kernels).all():
        raise ValueError("found kernels that are not finite; train the model again")
    if filters == 1:
        return np.arange(channels)[:, None]
    trees = [linkage(kernels[:, channel].astype(np.float64), "ward") for channel in range(channels)]
    merges = filters - keep
    cut = max(tree[merges - 1, 2] for tree in trees) if merges else 0.0
    labels, first = np.empty((channels, filters), np.int64), 0
    for channel, tree in enumerate(trees):
        labels[channel] = first + fcluster(tree, cut, "distance") - 1
        first = labels[channel].max() + 1
    return labels
