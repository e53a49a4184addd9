"""Steps of a session: what they refer to must have run."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host import load
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.schedulers import standard_normal
from ditto_zynq.host.runtime.session import ORIGINAL


def test_a_history_that_is_not_there_is_refused(tiny_folder):
    model = load(tiny_folder)
    sample, labels = standard_normal(0, 0, 0, (1, 3, 8, 8)), np.array([0])
    session = model.session(1)
    with pytest.raises(ValueError, match="step 1 of flow difference refers to step 0, but no step has run"):
        session.run_step(sample, 1, labels, "difference")
    session.run_step(sample, 0, labels, "difference")
    for step, flow in ((2, "difference"), (1, "defo")):
        with pytest.raises(ValueError, match=r"the last one was step 0 of flow difference .*run all steps from 0"):
            session.run_step(sample, step, labels, flow)
        session.run_step(sample, 0, labels, "difference")
    session.run_step(sample, 1, labels, "difference")
    session.run_step(sample, 3, labels, "spatial")


CONFIG = default_config("zcu104")


REFUSED = (TypeError, ValueError)


def in_one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and text.startswith("found ") and "expected " in text and len(text) < 400, text
    return text


def emulator() -> EmulatorDevice:
    return EmulatorDevice(CONFIG, counting=False)


@pytest.mark.parametrize(
    ("step", "rows"), [(6, [0]), (-1, [0]), ("0", [0]), (0, [-1]), (0, [3]), (0, [0, 0]), (0, [0.0])]
)
def test_steps_and_rows_that_a_session_does_not_have(tiny_model, step, rows):
    session = Model(tiny_model, emulator()).session(1)
    with pytest.raises(REFUSED) as error:
        session.run_step(np.zeros((1, 3, 8, 8)), step, np.array(rows), ORIGINAL)
    in_one_line(error)
