from __future__ import annotations

import itertools
import json
import re

import pytest
from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.config import HardwareConfig, default_config
from ditto_zynq.hls.machine.isa import COUNTERS, DESCRIPTOR, POINTERS, PORTS, SCALARS, Region, registers


@pytest.mark.parametrize("board", BOARDS)
def test_shipped_configurations_fit_their_boards(board):
    config = default_config(board)
    assert config.dram_bytes_per_kilocycle * config.clock_mhz * 1e3 <= BOARDS[board].dram_gb_per_s * 1e9
    assert HardwareConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_every_field_is_in_the_hash():
    config = HardwareConfig(cores=2)
    for name, value in config.to_json().items():
        changed = {"board": "kv260", "weight_memory": "bram", "dram_gb_per_s": 3.5}.get(name) or value // 2
        other = HardwareConfig.from_json({**config.to_json(), name: changed})
        assert other.digest != config.digest, name
    assert config.register_hash == int(config.digest[:8], 16)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"board": "zcu999"}, "found board 'zcu999', expected one of zcu104"),
        (
            {"cores": 64},
            r"does not fit zcu104: it needs 8,\d{3} of 1,728 DSP slices \(at most 95%\), .* LUTs .* use fewer cores",
        ),
        ({"weight_depth": 8192, "weight_memory": "uram"}, r"256 of 96 UltraRAMs"),
        ({"weight_depth": 8192}, r"3,\d{3} of 624 18 Kb block RAMs"),
        ({"board": "zcu102", "weight_memory": "uram"}, r"128 of 0 UltraRAMs"),
        ({"weight_memory": "flash"}, "found weight_memory = 'flash', expected bram, uram or both"),
        ({"dram_gb_per_s": 20.0}, "found dram_gb_per_s = 20.0, expected more than 0 and at most zcu104's 19.2"),
        ({"dram_gb_per_s": 0}, "found dram_gb_per_s = 0, expected more than 0"),
        ({"lanes": 17}, "found lanes = 17, expected at most the bus's 16 bytes"),
        ({"row_bytes": 1000}, "found row_bytes = 1000, expected a multiple of the bus's 16 bytes"),
        ({"lanes": 0}, "found lanes = 0, expected a whole number from 1 to 16777216"),
        ({"lanes": "8"}, "found lanes = '8', expected a whole number"),
        ({"bus_bits": 48}, "found bus_bits = 48"),
        ({"dram_gb_per_s": True}, "found dram_gb_per_s = True, expected a number"),
        ({"dram_gb_per_s": "x"}, "found dram_gb_per_s = 'x', expected a number"),
        ({"dram_gb_per_s": float("nan")}, "found dram_gb_per_s = nan, expected more than 0"),
        ({"board": []}, r"found board = \[\], expected a word"),
        ({"clock_mhz": 5000}, "found clock_mhz = 5000, expected at most 1000"),
        ({"cores": 10**14}, "found cores = 100000000000000, expected a whole number from 1 to 16777216"),
        ({"oc_tile": 24}, "found oc_tile = 24, expected an even multiple of the bus's 16 bytes"),
        ({"digit_depth": 4}, "found digit_depth = 4, expected at least the 8 lanes"),
        ({"corse": 4}, "found configuration field 'corse', expected some of .*cores"),
    ],
)
def test_impossible_configurations_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        HardwareConfig.from_json(fields)


def test_unreadable_configuration_files(tmp_path):
    path = tmp_path / "hardware.json"
    with pytest.raises(ValueError, match="no readable hardware configuration"):
        HardwareConfig.load(path)
    for content in (b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"null"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            HardwareConfig.load(path)


def test_records_are_aligned_for_bursts():
    assert DESCRIPTOR.itemsize % 16 == 0 and SCALARS.itemsize % 8 == 0 and COUNTERS.itemsize % 8 == 0
    for record in (DESCRIPTOR, SCALARS, COUNTERS):
        for name in record.names:
            dtype, offset = record.fields[name][:2]
            assert offset % dtype.itemsize == 0, f"{name} is not naturally aligned"
    taken = list(registers().values())
    assert len(set(taken)) == len(taken) and all(later - earlier >= 8 for earlier, later in itertools.pairwise(taken))
    assert {pointer.region for pointer in POINTERS} == set(Region) and {pointer.port for pointer in POINTERS} == set(
        range(PORTS)
    )
