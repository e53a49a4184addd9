"""Distances and ratios in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.quant.judge.quality import frechet_distance, gaussian, psnr
from ditto_zynq.quant.zoo.fashion_mnist import FOLDER

needs_data = pytest.mark.skipif(not FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist")


def test_frechet_distance_of_gaussians():
    random = np.random.default_rng(0)
    mixing = random.standard_normal((6, 6))
    a = (random.standard_normal(6), mixing @ mixing.T)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    shifted = (a[0] + 2.0, a[1])
    assert frechet_distance(a, shifted) == pytest.approx(6 * 4)
    diagonal = [(np.zeros(3), np.diag([1.0, 4.0, 9.0])), (np.zeros(3), np.diag([4.0, 4.0, 1.0]))]
    assert frechet_distance(*diagonal) == pytest.approx((1 - 2) ** 2 + 0 + (3 - 1) ** 2)
    assert frechet_distance(*diagonal) == pytest.approx(frechet_distance(*reversed(diagonal)))


def test_gaussian_statistics():
    features = np.array([[0.0, 0.0], [2.0, 4.0]])
    mean, covariance = gaussian(features)
    assert mean.tolist() == [1, 2] and covariance.tolist() == [[2, 4], [4, 8]]


def test_psnr_in_closed_form():
    a = np.zeros((2, 1, 4, 4))
    b = a.copy()
    b[1] += 0.02
    assert psnr(a, b)[1] == pytest.approx(20 * np.log10(2 / 0.02))
    identical = 10 * np.log10(4e12)
    assert psnr(a, b)[0] == pytest.approx(identical)
    assert psnr(a + 1, a + 5)[0] == pytest.approx(identical), (
        "values beyond the range of images count as the range's ends"
    )
