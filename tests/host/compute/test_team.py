"""Threads that share a layer: every part is worked on once, and what one of them raises is raised when all have ended."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.compute.team import SMALLEST_ELEMENTS, Team
from ditto_zynq.host.devices.emulator import EmulatorDevice


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize(("count", "smallest"), [(0, 1), (1, 1), (5, 1), (100, 1), (100, 40), (100, 1000)])
def test_every_unit_is_worked_on_once(threads, count, smallest):
    times, ranges = np.zeros(count, np.int64), []

    def work(first: int, last: int) -> None:
        times[first:last] += 1
        ranges.append(last - first)

    Team(threads).share(count, smallest, work)
    assert (times == 1).all() and len(ranges) <= threads
    assert len(ranges) == 1 or min(ranges) >= smallest


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3, 8, 13])
def test_every_row_is_worked_on_once(threads, batch):
    """Parts are contiguous, so that compiled loops take them as they are."""
    times = np.zeros((batch, 5, SMALLEST_ELEMENTS), np.int8)

    def work(samples: slice, rows: slice) -> None:
        assert times[samples, rows].flags.c_contiguous
        times[samples, rows] += 1

    Team(threads).share_rows(times.shape, work)
    assert (times == 1).all()


@pytest.mark.parametrize("failing", [0, 1])
def test_what_a_thread_raises_is_raised_when_all_have_ended(failing):
    both, ended = threading.Barrier(2), []

    def work(first: int, last: int) -> None:
        both.wait(600)
        if first == failing:
            raise MemoryError("of one part")
        ended.append(first)

    with pytest.raises(MemoryError, match="of one part"):
        Team(2).share(2, 1, work)
    assert ended == [1 - failing]


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="found 0 threads, expected 1 or more"):
        EmulatorDevice(default_config("zcu104"), threads=0)
