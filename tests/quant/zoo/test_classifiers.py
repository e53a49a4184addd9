"""The shipped classifier judges real images."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.quant.judge.quality import Judge
from ditto_zynq.quant.zoo.fashion_mnist import FOLDER, load_split

needs_data = pytest.mark.skipif(not FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist")


@needs_data
@pytest.mark.slow
def test_the_shipped_classifier_judges_real_images():
    test = load_split("t10k")
    judge = Judge(test.images[:5000])
    real = judge.quality(test.images[5000:], test.labels[5000:])
    assert real.accuracy > 0.92
    noise = np.random.default_rng(0).integers(0, 256, (1000, 28, 28)).astype(np.uint8)
    assert judge.quality(noise, np.zeros(1000, int)).frechet_distance > 20 * real.frechet_distance
