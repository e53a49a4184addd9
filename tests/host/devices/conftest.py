"""A served board, a client of it, and the samples that every device computes. The board is imported where it is used: pynq 3.1
knows no remote ones."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.runtime.model import Model


@pytest.fixture
def served(request) -> Iterator[SimpleNamespace]:
    from ditto_zynq.host.devices.emulated_board import EmulatedBoard
    from ditto_zynq.host.devices.remote_board import serve

    from tests.host.devices.served import CONFIG, LIMITS

    options = getattr(request, "param", {})
    board = EmulatedBoard(EmulatorDevice(CONFIG, counting=False), cma_bytes=64 << 20)
    clock = SimpleNamespace(now=0.0)  # seconds that pass when a test says so
    server, port = serve(board, 0, **{"limits": LIMITS, "clock": lambda: clock.now, **options})
    yield SimpleNamespace(board=board, port=port, server=server, clock=clock)
    server.stop()


@pytest.fixture
def client(served):
    from tests.host.devices.served import Client

    return Client(served.port)


@pytest.fixture(scope="session")
def expected(tiny_model) -> np.ndarray:
    """Three samples of seed 5, by the emulator."""
    device = EmulatorDevice(default_config("zcu104"), counting=False)
    return Model(tiny_model, device).generate(3, None, 5, 2, progress=False).samples
