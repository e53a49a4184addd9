"""Fashion-MNIST as the package installs it."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.quant.zoo.fashion_mnist import FOLDER, load_split

needs_data = pytest.mark.skipif(not FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist")


@needs_data
def test_the_data_are_the_real_ones():
    train, test = load_split("train"), load_split("t10k")
    assert train.images.shape == (60000, 28, 28) and test.images.shape == (10000, 28, 28)
    assert np.bincount(train.labels).tolist() == [6000] * 10 and np.bincount(test.labels).tolist() == [1000] * 10


def test_missing_and_broken_data(tmp_path):
    import gzip

    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        load_split("train", tmp_path)
    for kind in ("images-idx3", "labels-idx1"):
        with gzip.open(tmp_path / f"train-{kind}-ubyte.gz", "wb") as file:
            file.write(b"\0" * 16)
    with pytest.raises(ValueError, match="found magic number 0x0, expected 0x803"):
        load_split("train", tmp_path)
