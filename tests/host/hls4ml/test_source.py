"""What hls4ml's converters drop is found in the user's own model; whole conversions are in test_graph.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

nn = pytest.importorskip("torch").nn

from ditto_zynq.host.hls4ml.source import dropped_settings  # noqa: E402


def converted(model: nn.Module) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(config={"PytorchModel": model}))


def test_settings_that_change_nothing_are_not_missed():
    assert list(dropped_settings(converted(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Linear(4, 4))))) == []


def test_groups_and_dilation_are():
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Sequential(nn.Conv2d(4, 4, 3, dilation=(1, 2))))
    assert list(dropped_settings(converted(model))) == [("0", "groups", 2), ("1.0", "dilation", (1, 2))]


def test_a_model_that_is_not_there_has_none():
    assert list(dropped_settings(SimpleNamespace(config=SimpleNamespace(config={})))) == []
