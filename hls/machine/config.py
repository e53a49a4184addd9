"""The hardware configuration: one frozen dataclass that HLS header, emulator, cost models, driver and bitstream derive from."""

from __future__ import annotations

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
    """One accelerator on one board, which it fits. Raises ValueError for what cannot be built."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fits(self)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> HardwareConfig:
        known = {field.name for field in fields(HardwareConfig)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ValueError(f"found configuration field {unknown[0]!r}, expected some of {', '.join(sorted(known))}")
        return HardwareConfig(**data)

    @staticmethod
    def load(path: Path) -> HardwareConfig:
        try:
            return HardwareConfig.from_json(json.loads(Path(path).read_text()))
        except (OSError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no readable hardware configuration ({error})") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration; its first 32 bits are in the accelerator's CONFIG_HASH register."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @property
    def register_hash(self) -> int:
        return int(self.digest[:8], 16)


def default_config(board: str) -> HardwareConfig:
    """The configuration shipped for a board: the one with most multipliers, and the widest ports, that fits it by
    :mod:`.resources`, with 64 sums per core (rows of 64 output pixels; 32 on pynq-z2).

    kv260 has little block RAM and few LUTs for its DSPs, 44 % of which are used. ValueError, listing the known ones, for an
    unknown board.
    """
    shapes: dict[str, dict[str, Any]] = {
        "zcu104": {},
        "zcu102": {"cores": 7, "lanes": 16, "weight_memory": "bram"},
        "kv260": {"cores": 2, "weight_memory": "uram"},
        "ultra96v2": {"cores": 1, "bus_bits": 64, "weight_memory": "bram"},
        "aup-zu3": {"cores": 1, "bus_bits": 64, "weight_memory": "bram"},
        "pynq-z2": {
            "cores": 1,
            "lanes": 4,
            "clock_mhz": 100,
            "bus_bits": 32,
            "accumulator_depth": 32,
            "row_bytes": 2048,
            "weight_memory": "bram",
        },
    }
    find_board(board)
    return HardwareConfig(board=board, **shapes[board])
