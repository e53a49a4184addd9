"""Samples of a run against the reference: all right on every kind of operation, and a wrong one is found."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.studies.spot_check import SpotCheck, Wrong

from tests.hls.configs import CONFIGS
from tests.host.runs import session_of

KINDS = {"Convolution", "MatMul", "GroupNorm", "LayerNorm", "Add", "Multiply", "Softmax", "Upsample", "AveragePool"}


def check_step(seed: int, step: int = 1, spoil: str = "") -> SpotCheck:
    """A step of a random graph, every operation checked after it has run, the one named ``spoil`` changed before that."""
    build, graph = random_unet(seed)
    session = session_of(build, graph, 2, device := EmulatorDevice(CONFIGS["zcu104"], counting=False))
    rows = np.arange(2) % graph.labels
    context = graph.decode_context(build.codes(2, "context"), 1.0) if graph.context else None
    check = SpotCheck(session.program, build.tables, step, rows, samples=20)

    def audit(index: int) -> None:
        operation = session.program.operations[index]
        if operation.name == spoil:
            tensor = session.tensor(spoil)
            tensor[...] = np.where(tensor == 1, 2, 1)
        check(operation, session.tensor)

    device.auditor = audit
    session.run_step(build.codes(2).transpose(0, 3, 1, 2).astype(float), step, rows, "original", context)
    return check


def test_every_kind_of_operation_is_checked():
    checked: set[str] = set()
    for seed in range(14):
        checked |= set(check_step(seed).checked)
    assert checked >= KINDS


def test_a_wrong_result_is_found():
    build, graph = random_unet(3)
    names = [
        operation.name
        for operation in session_of(build, graph, 2, EmulatorDevice(CONFIGS["zcu104"])).program.operations
    ]
    for name in names:
        with pytest.raises(Wrong, match=rf"^{name} \("):
            check_step(3, spoil=name)
