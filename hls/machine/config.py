"""The hardware configuration: one frozen dataclass that HLS header, emulator, cost models, driver and bitstream derive from."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .boards import find_board
from .resources import check_fits
from .shape import Shape


@dataclass(frozen=True)
class HardwareConfig(Shape):
    """The configuration of one accelerator on one board, which it fits. ValueError for what cannot be built."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fits(self)

    def to_json(self) -> dict[str, Any]:
        """All fields by name, the board's too."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> HardwareConfig:
        """The configuration that has these fields, and the default board's others. ValueError for a field that none has, and for
        what cannot be built."""
        known = {field.name for field in fields(HardwareConfig)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ValueError(f"found configuration field {unknown[0]!r}, expected some of {', '.join(sorted(known))}")
        return HardwareConfig(**data)

    @staticmethod
    def load(path: Path) -> HardwareConfig:
        """The configuration in a JSON file. ValueError where there is none that can be read or built."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, RecursionError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no readable hardware configuration ({error})") from error
        if not isinstance(data, dict):
            raise ValueError(f"{path}: found {type(data).__name__}, expected the fields of a hardware configuration")
        return HardwareConfig.from_json(data)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the configuration; its first 32 bits are in the accelerator's CONFIG_HASH register."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @property
    def register_hash(self) -> int:
        """What the accelerator's CONFIG_HASH register holds: the digest's first 32 bits."""
        return int(self.digest[:8], 16)


def default_config(board: str) -> HardwareConfig:
    """The configuration shipped for a board, as its row in :mod:`.boards` says. ValueError, listing the known ones, for an
    unknown board."""
    return HardwareConfig.from_json({"board": board, **find_board(board).shipped})
