"""Devices by their names; boards are opened in test_board.py and test_remote_board.py."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.build.bitstreams import BitstreamError
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices import opening
from ditto_zynq.host.devices.opening import KINDS, fabric_of, open_device

CONFIG = default_config("zcu104")


def test_no_board_is_an_emulator_and_on_a_boards_machine_that_is_said(tmp_path, monkeypatch):
    said = []
    assert open_device("auto", CONFIG, bitstreams=tmp_path, announce=said.append).name == "emulator"
    assert not said
    monkeypatch.setattr("platform.machine", lambda: opening.BOARD_MACHINES[0])
    assert open_device("auto", CONFIG, bitstreams=tmp_path, announce=said.append).name == "emulator"
    assert said[0].startswith("no board: ") and "no bitstream has been built for zcu104" in said[0]
    assert said[0].endswith("the emulator runs instead")


@pytest.mark.parametrize("kind", ["", "gpu", "pynq-", "pynq-board", "Emulator"])
def test_other_kinds_are_refused_with_the_known_ones(kind):
    with pytest.raises(ValueError) as error:
        open_device(kind, CONFIG)
    assert str(error.value).endswith(f"expected {KINDS}")
    with pytest.raises(ValueError, match="expected emulator or csim"):
        fabric_of("board", CONFIG, False)


def test_a_board_needs_its_bitstream(tmp_path):
    for kind in ("board", "remote:nowhere.invalid"):
        with pytest.raises(BitstreamError, match="no bitstream has been built for zcu104"):
            open_device(kind, CONFIG, bitstreams=tmp_path)
