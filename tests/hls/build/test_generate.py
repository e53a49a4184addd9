"""The generated headers hold the numbers of the configuration and the entries of the tables, and nothing that is missing."""

from __future__ import annotations

import re

import jinja2
import pytest
from ditto_zynq.hls.build.generate import config_constants, environment, generate
from ditto_zynq.hls.contract import tables
from ditto_zynq.hls.machine.config import HardwareConfig, default_config


def constants_of(text: str) -> dict[str, int]:
    """The integers that a header names."""
    return {name: int(value) for name, value in re.findall(r"constexpr int (\w+) = (-?\d+);", text)}


def test_what_follows_from_a_configuration_is_what_it_is_on_paper():
    found = config_constants(default_config("zcu104"))
    assert found["bus_bytes"] == 128 // 8 and found["vector_width"] == 128 // 16
    assert found["dram_bytes_per_kilocycle"] == 76_800, "19.2 GB/s at 250 MHz are 76.8 bytes a cycle"
    assert found["word_bits"] == 10 and found["position_bits"] == 9, "1024 words from 0; 0 to 256 positions"
    assert "board" not in found and "weight_memory" not in found, "words are no integers"


def test_headers_have_the_configuration_and_the_tables(tmp_path):
    config = HardwareConfig(cores=3, positions=99)
    texts = {path.name: path.read_text() for path in generate(config, tmp_path / "new" / "folder")}
    assert set(texts) == {"config.hpp", "formats.hpp", "isa.hpp", "tables.hpp", "top.cpp", "csim.cpp"}
    assert not [name for name, text in texts.items() if "{{" in text or "{%" in text]
    found = constants_of(texts["config.hpp"])
    assert (found["cores"], found["positions"]) == (3, 99) and f"{config.register_hash:#x}" in texts["config.hpp"]
    for name in ("EXP2_NEGATIVE", "RECIPROCAL_SQUARE_ROOT"):
        entries = re.search(rf" {name}\[(\d+)\] = {{([^}}]*)}}", texts["tables.hpp"])
        assert [int(entry) for entry in entries[2].split(",") if entry.strip()] == getattr(tables, name).tolist()


def test_only_what_names_the_configuration_changes_with_it(tmp_path):
    texts = [
        {path.name: path.read_text() for path in generate(HardwareConfig(cores=cores), tmp_path / str(cores))}
        for cores in (2, 3)
    ]
    assert {name for name in texts[0] if texts[0][name] != texts[1][name]} == {"config.hpp"}


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        environment().from_string("{{ nothing }}").render()
