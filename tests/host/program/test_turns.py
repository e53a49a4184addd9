"""The order in which two halves of a batch use the two units is the best one, and a legal one."""

from __future__ import annotations

import functools

import pytest
from ditto_zynq.host.program.turns import WINDOW, take_turns
from hypothesis import given, settings
from hypothesis import strategies as st


def shortest(cycles, is_linear) -> float:
    """By trying everything."""

    @functools.cache
    def left(first: int, second: int) -> float:
        if first == second == len(cycles):
            return 0.0
        choices = []
        if first < len(cycles):
            choices.append(cycles[first] + left(first + 1, second))
        if second < first:
            choices.append(cycles[second] + left(first, second + 1))
            if first < len(cycles) and is_linear[first] != is_linear[second]:
                choices.append(max(cycles[first], cycles[second]) + left(first + 1, second + 1))
        return min(choices)

    return left(0, 0)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 50), st.booleans()), min_size=1, max_size=WINDOW))
def test_the_time_is_the_shortest_and_every_operation_runs_once_in_order(operations):
    cycles, is_linear = [cost for cost, _ in operations], [unit for _, unit in operations]
    turns, time = take_turns(cycles, is_linear)
    assert time == shortest(tuple(cycles), tuple(is_linear))
    done, total = [0, 0], 0
    for turn in turns:
        units = [(turn.linear, True), (turn.vector, False)]
        work = [(unit, linear) for unit, linear in units if unit is not None]
        assert all(is_linear[position] == linear for (position, _), linear in work)
        assert len({half for (_, half), _ in work}) == len(work)
        total += max(cycles[position] for (position, _), _ in work)
        for (position, half), _ in work:
            assert done[half] == position and (half == 0 or position < done[0] + (len(work) == 1))
            done[half] += 1
        assert done[1] <= done[0]
    assert done == [len(cycles)] * 2 and total == time


def test_alternating_units_are_all_hidden_but_at_the_ends():
    turns, time = take_turns([5, 5] * 20, [True, False] * 20)
    assert time == 5 * 41 and sum(turn.linear is not None and turn.vector is not None for turn in turns) == 39
    assert take_turns([5] * 4, [True] * 4)[1] == pytest.approx(40), "one unit alone gains nothing"
