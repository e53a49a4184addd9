"""Bitstreams on disk: ``NAME.bit``, ``NAME.hwh`` and ``NAME.json``, a manifest that says what they are, with their hashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..machine.config import HardwareConfig
from .handoff import VLNV, bitstream_name

SUFFIXES = (".bit", ".hwh")
SHIPPED = Path(__file__).resolve().parents[2] / "bitstreams"


class BitstreamError(ValueError):
    """There is no such bitstream, or its files are not those that the manifest describes."""


@dataclass(frozen=True)
class Bitstream:
    """A verified bitstream for ``config``: its file, beside which the .hwh lies, and its SHA-256."""

    config: HardwareConfig
    path: Path
    sha256: str


def publish(folder: Path, config: HardwareConfig, manifest: Mapping[str, Any], target: Path) -> list[Path]:
    """Copy bitstream and handoff from ``folder`` to ``target``, and write the manifest with their sizes and hashes last."""
    name = bitstream_name(config)
    target.mkdir(parents=True, exist_ok=True)
    paths = [Path(shutil.copy(folder / f"{name}{suffix}", target)) for suffix in SUFFIXES]
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in paths}
    paths.append(target / f"{name}.json")
    paths[-1].write_text(json.dumps({**manifest, "files": files}, indent=1) + "\n")
    return paths


def find_bitstream(config: HardwareConfig, folder: Path | None = None) -> Bitstream:
    """The bitstream built for ``config``, verified. BitstreamError where there is none, or where a file was altered."""
    folder = SHIPPED if folder is None else folder
    name = bitstream_name(config)
    manifest_path = folder / f"{name}.json"
    build = f"'ditto-zynq build --board {config.board} -o build --publish {folder}'"
    if not manifest_path.is_file():
        raise BitstreamError(
            f"found no {manifest_path.name} in {folder}: no bitstream has been built for {config.board}, configuration "
            f"{config.digest[:8]}; build one where Vitis HLS and Vivado are installed with {build}"
        )
    manifest = _manifest(manifest_path)
    if manifest["digest"] != config.digest or manifest["vlnv"] != VLNV:
        raise BitstreamError(
            f"{manifest_path} is for configuration {manifest['digest'][:8]} of {manifest['vlnv']}, expected "
            f"{config.digest[:8]} of {VLNV}; build it again with {build}"
        )
    for suffix in SUFFIXES:
        _verify(folder / f"{name}{suffix}", manifest["files"], build)
    return Bitstream(config, folder / f"{name}.bit", manifest["files"][f"{name}.bit"]["sha256"])


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
        for key in ("digest", "vlnv", "files"):
            manifest[key]
    except (ValueError, KeyError, TypeError) as error:
        raise BitstreamError(f"{path} is no manifest of a bitstream ({error!r}); build it again") from error
    return dict(manifest)


def _verify(path: Path, files: Mapping[str, Any], build: str) -> None:
    if path.name not in files:
        raise BitstreamError(f"the manifest does not know {path}; build it again with {build}")
    if not path.is_file():
        raise BitstreamError(f"found no {path}, which its manifest names; copy it there or build it again with {build}")
    expected = files[path.name]
    found = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    for what in ("bytes", "sha256"):
        if found[what] != expected[what]:
            raise BitstreamError(
                f"{path} was altered: found {what} {found[what]}, expected {expected[what]}; copy it again or build it "
                f"again with {build}"
            )


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
