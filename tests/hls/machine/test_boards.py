"""A board is a row of the catalogue, and all that there is of it."""

from __future__ import annotations

from dataclasses import fields

import pytest
from ditto_zynq.hls.machine.boards import BOARDS, DEFAULT_BOARD, Board, find_board
from ditto_zynq.hls.machine.config import HardwareConfig, default_config


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_row_has_what_differs_from_the_default_boards_configuration(board):
    defaults = {field.name: field.default for field in fields(HardwareConfig)}
    assert board.shipped.keys() < defaults.keys() - {"board"}
    assert not [name for name, value in board.shipped.items() if value == defaults[name]]
    assert default_config(board.name) == HardwareConfig(board=board.name, **board.shipped)


def test_the_default_board_is_that_of_a_configuration_that_says_nothing():
    assert HardwareConfig() == default_config(DEFAULT_BOARD) and not BOARDS[DEFAULT_BOARD].shipped


def test_what_follows_from_the_part():
    zynq, ultrascale = find_board("pynq-z2"), find_board("zcu102")
    assert (zynq.architecture, zynq.multiplier_bits) == ("armv7l", 25)
    assert (ultrascale.architecture, ultrascale.multiplier_bits) == ("aarch64", 27)
    assert hash(zynq) != hash(ultrascale) and isinstance(zynq, Board)


def test_another_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=f"found board 'zcu999', expected one of {', '.join(BOARDS)}"):
        find_board("zcu999")
