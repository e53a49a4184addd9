"""Means over windows are PyTorch's, rounded half up; what fills no window is dropped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.contract.operators import AveragePool
from ditto_zynq.hls.contract.operators.pool import LARGEST_POOL, average_pool
from ditto_zynq.hls.contract.tensor import VALUE, Tensor


@pytest.mark.parametrize(("size", "bits"), [(1, 0), (2, 2), (4, 4)])
def test_means_are_those_of_pytorch(size, bits):
    x = np.random.default_rng(size).integers(-32768, 32768, (2, 5, 7, 3))
    image = torch.from_numpy(x.transpose(0, 3, 1, 2)).double()
    means = torch.nn.functional.avg_pool2d(image, size).permute(0, 2, 3, 1).numpy()
    found = average_pool(x, size, 1 << 20, 20 + bits)  # a sum of 2**bits values, divided by their number
    assert found.shape == (2, 5 // size, 7 // size, 3) and np.array_equal(found, np.floor(means + 0.5))


def test_the_largest_window_of_the_largest_values_is_exact():
    x = np.full((1, LARGEST_POOL, LARGEST_POOL, 1), -32768)
    assert average_pool(x, LARGEST_POOL, 1, 10).tolist() == [[[[-32768]]]]


def test_a_window_larger_than_the_image_leaves_nothing():
    shape = AveragePool("n", "m", ("x",), 4).output_shape([Tensor("x", VALUE, (3, 9, 2))], 0)
    assert shape == (0, 2, 2), "which the schema of a tensor refuses"
