"""Boards have NumPy only. Without torch, without numba or without both, the emulator gives the same bits and counts."""

from __future__ import annotations

import pytest

from tests.test_dependencies import run_without

PROGRAM = """
import hashlib, numpy as np
from tests.host.test_emulator import CONFIG, run_both
from ditto_zynq.hls.random_graphs import random_unet
from ditto_zynq.host import vector
from ditto_zynq.host.emulator import EmulatorDevice
digest = hashlib.sha256()
for seed in range(4):
    build, graph = random_unet(seed)
    device = EmulatorDevice(CONFIG, differences=True)
    for session, expected in run_both(build, graph, device, "difference"):
        assert np.array_equal(session.codes(graph.output), expected[graph.output])
        digest.update(session.codes(graph.output).tobytes() + session.counters().tobytes())
print(device.backend, vector.ACCELERATED, digest.hexdigest())
"""


@pytest.fixture(scope="module")
def everything() -> str:
    return run_without((), PROGRAM).split()[2]


@pytest.mark.parametrize(
    ("missing", "backends", "compiled"),
    [
        (("torch",), {"int16"}, "True"),
        (("numba",), {"vnni", "numpy"}, "False"),
        (("torch", "numba"), {"numpy"}, "False"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "",
)
def test_the_same_bits_and_counts_without(missing, backends, compiled, everything):
    backend, accelerated, digest = run_without(missing, PROGRAM).split()
    assert backend in backends and accelerated == compiled
    assert digest == everything
