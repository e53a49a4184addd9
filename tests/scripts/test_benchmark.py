"""What the benchmark measures: that it runs, not how fast anything is."""

from __future__ import annotations

import pytest

from scripts.benchmark import driver_overhead, help_seconds, import_seconds


@pytest.mark.parametrize("behind_pynq", [False, True])
def test_the_driver_takes_a_part_of_a_run(tiny_model, behind_pynq):
    assert 0 < driver_overhead(tiny_model, 2, 1, behind_pynq) < 1


def test_seconds_are_measured():
    assert import_seconds() > 0 and help_seconds() > 0
