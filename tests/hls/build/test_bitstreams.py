"""Bitstreams are what their manifests say, or are refused; the handoff of the block design is what pynq's parser reads."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ditto_zynq.hls.build.bitstreams import BitstreamError, find_bitstream, publish
from ditto_zynq.hls.build.handoff import ACCELERATOR, INTERRUPTS, RESET, VLNV, bitstream_name, cells, handoff
from ditto_zynq.hls.build.project import write_project
from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import registers

CONFIG = default_config("zcu104")
NAME = bitstream_name(CONFIG)


@pytest.fixture
def published(tmp_path):
    built = tmp_path / "built"
    built.mkdir()
    (built / f"{NAME}.bit").write_bytes(b"bits")
    (built / f"{NAME}.hwh").write_text(handoff(CONFIG))
    folder = tmp_path / "published"
    publish(built, CONFIG, {"digest": CONFIG.digest, "vlnv": VLNV, "built": True}, folder)
    return folder


def test_a_published_one_is_found(published):
    found = find_bitstream(CONFIG, published)
    assert found.path.read_bytes() == b"bits" and found.config == CONFIG
    assert json.loads((published / f"{NAME}.json").read_text())["files"][f"{NAME}.bit"]["bytes"] == 4


def test_none_is_shipped_yet():
    for board in BOARDS:
        with pytest.raises(
            BitstreamError, match=f"no bitstream has been built for {board}.*ditto-zynq build --board {board}"
        ):
            find_bitstream(default_config(board))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / f"{NAME}.bit").write_bytes(b"bit"), "was altered: found bytes 3, expected 4; copy it again"),
        (lambda f: (f / f"{NAME}.bit").write_bytes(b"bitz"), "was altered: found sha256"),
        (lambda f: (f / f"{NAME}.hwh").unlink(), "found no .*hwh, which its manifest names"),
        (lambda f: (f / f"{NAME}.json").write_text("{}"), "is no manifest of a bitstream"),
        (lambda f: (f / f"{NAME}.json").write_text("no json"), "is no manifest of a bitstream"),
        (lambda f: rewrite(f, files={}), "the manifest does not know"),
        (lambda f: rewrite(f, digest="0" * 64), "is for configuration 00000000 of .*expected"),
        (lambda f: rewrite(f, vlnv="a:b:c:1.0"), "of a:b:c:1.0, expected"),
    ],
)
def test_altered_and_unknown_ones_are_refused(published, damage, message):
    damage(published)
    with pytest.raises(BitstreamError, match=message):
        find_bitstream(CONFIG, published)
    with pytest.raises(BitstreamError, match="no bitstream has been built"):
        find_bitstream(replace(CONFIG, cores=4), published)


def rewrite(folder, **changes) -> None:
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("board", BOARDS)
def test_pynqs_parser_reads_the_handoff(board, tmp_path):
    from pynq.metadata.runtime_metadata_parser import RuntimeMetadataParser
    from pynqmetadata.frontends import Metadata

    config = default_config(board)
    (tmp_path / "design.hwh").write_text(handoff(config))
    parsed = RuntimeMetadataParser(Metadata(input=tmp_path / "design.hwh"))
    parsed.refresh_hierarchy_dict()
    addresses = {name: entry["phys_addr"] for name, entry in parsed.ip_dict.items() if "phys_addr" in entry}
    assert addresses == {cell.name: cell.address for cell in cells(config)}
    accelerator = parsed.ip_dict[ACCELERATOR]
    assert accelerator["type"] == VLNV and accelerator["interrupts"]["interrupt"]["controller"] == INTERRUPTS
    offsets = {name: entry["address_offset"] for name, entry in accelerator["registers"].items()}
    for name, offset in registers().items():
        assert offsets.get(name, offsets.get(f"{name}_1")) == offset
    assert parsed.ip_dict[RESET]["type"] == "xilinx.com:ip:axi_gpio:2.0"
    if BOARDS[board].zynq_ultrascale:
        assert parsed.clock_dict[0]["frequency"] == config.clock_mhz
    else:
        assert parsed.clock_dict[0]["frequency"] is None, (
            "pynqmetadata 0.2: host/devices/board.py may stop to work around it"
        )


@pytest.mark.parametrize("board", ["zcu104", "pynq-z2"])
def test_the_block_design_has_the_handoffs_addresses(board, tmp_path):
    config = default_config(board)
    write_project(config, tmp_path)
    script = (tmp_path / "run_vivado.tcl").read_text()
    for cell in cells(config):
        assert (
            f"assign_bd_address -offset 0x{cell.address:08X} -range 65536 [get_bd_addr_segs {cell.name}/{cell.interface}/Reg]"
            in script
        )
        assert f" {cell.name}/{cell.interface}" in script
