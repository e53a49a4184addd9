"""Stages that overlap end when a plain simulation of their buffers says."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.host.counting.timeline import overlapped


def simulated(encode: list[int], compute: list[int], finish: list[int], fill: int) -> int:
    """Stage by stage: each waits for its turn, for what it works on, and for a buffer, of which there are two."""
    encoded, computed, finished = ([0, 0] for _ in range(3))  # when phases -2 and -1 ended
    for first, second, third in zip(encode, compute, finish, strict=True):
        encoded.append(max(encoded[-1], computed[-2]) + first)
        computed.append(max(computed[-1], encoded[-1], finished[-2]) + second)
        finished.append(max(finished[-1], computed[-1] + fill) + third)
    return finished[-1]


def test_by_hand():
    phase = [np.array([[number] * 3]) for number in (3, 5, 2)]
    assert overlapped(*phase, fill=1).tolist() == [3 + 3 * 5 + 1 + 2], "the slowest stage counts"
    one = [np.array([[number]]) for number in (3, 5, 2)]
    assert overlapped(*one, fill=18).tolist() == [3 + 5 + 18 + 2], "one phase overlaps with nothing"
    slow_end = [np.array([[number] * 4]) for number in (1, 1, 10)]
    assert overlapped(*slow_end, fill=0).tolist() == [1 + 1 + 4 * 10]


@pytest.mark.parametrize("instances", [1, 7])
def test_any_phases(instances):
    random = np.random.default_rng(instances)
    for phases in (1, 2, 3, 9):
        stages = random.integers(0, 20, (3, instances, phases))
        expected = [simulated(*stages[:, index].tolist(), 4) for index in range(instances)]
        assert overlapped(*stages, fill=4).tolist() == expected
