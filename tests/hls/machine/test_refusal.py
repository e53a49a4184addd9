"""The first descriptor that breaks a rule is the one that is refused."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.machine.refusal import Refusal, Rules


def test_the_first_of_all_rules():
    rules = Rules()
    rules.require(np.array([True, True, True]), "kept")
    assert rules.refusal is None
    rules.require(np.array([True, True, False]), "late")
    rules.require(np.array([True, False, False]), "early")
    rules.require(np.array([True, False, True]), "as early, but later")
    assert rules.refusal == Refusal(1, "early")
