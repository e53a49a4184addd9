"""Design-space exploration: configurations of a board that fit it, and what Ditto and the dense array take on each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...hls.artefact.model import load as load_artefact
from ...hls.machine.boards import find_board
from ...hls.machine.config import HardwareConfig
from ...hls.machine.resources import available, estimate
from ..runtime.model import BUNDLED_MODEL
from .compare import compare

if TYPE_CHECKING:
    from distributed import Client

FIELDS = ("cores", "lanes", "oc_tile", "channel_groups", "dram_gb_per_s")
RESOURCES = ("lut", "dsp", "bram18", "uram")


def candidates(
    base: HardwareConfig, choices: Mapping[str, Sequence[Any]]
) -> tuple[list[HardwareConfig], dict[str, str]]:
    """Configurations: ``base`` with every combination of ``choices`` (of FIELDS); and by name why the others are none.

    ValueError for a field that is not to be varied, or where nothing fits.
    """
    unknown = sorted(set(choices) - set(FIELDS))
    if unknown:
        raise ValueError(f"found field {unknown[0]!r} to explore, expected some of {', '.join(FIELDS)}")
    fitting, refused = [], {}
    for values in itertools.product(*choices.values()):
        changes = dict(zip(choices, values, strict=True))
        try:
            fitting.append(replace(base, **changes))
        except ValueError as error:
            refused[", ".join(f"{name} {value}" for name, value in changes.items())] = str(error)
    if not fitting:
        raise ValueError(f"found no configuration that fits {base.board}: {'; '.join(refused.values())}")
    return fitting, refused


def explore(
    client: Client, configs: Sequence[HardwareConfig], batch: int = 16, model: Path = BUNDLED_MODEL
) -> list[dict[str, Any]]:
    """The comparison (:func:`.compare.compare`) of every configuration, in their order, by the workers of ``client``."""
    from ..runtime.fleet import RETRIES  # where there is a client, Dask is installed

    tasks = [client.submit(_compare, model, config, batch, pure=False, retries=RETRIES) for config in configs]
    return list(client.gather(tasks))


def _compare(model: Path, config: HardwareConfig, batch: int) -> dict[str, Any]:
    return compare(load_artefact(model), config, batch)


def summary(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of comparisons (:func:`.compare.compare`), sorted by Ditto's time: the configuration, milliseconds an image of both
    arrays, the part of the board it takes; ``best``: no other one is as fast with as few of every resource."""
    rows = []
    for data in found:
        config = HardwareConfig.from_json(data["configuration"])
        used, there = estimate(config), available(find_board(config.board))
        designs = {design["name"]: design for design in data["designs"]}
        parts = {name: getattr(used, name) / getattr(there, name) for name in RESOURCES if getattr(there, name)}
        milliseconds = {name: designs[name]["ms_per_image"] for name in ("itc", "ditto")}
        rows.append({"configuration": data["configuration"], "kind": data["kind"], **milliseconds, "resources": parts})
    for row in rows:
        row["best"] = not any(_dominates(other, row) for other in rows)
    return sorted(rows, key=lambda row: row["ditto"])


def _dominates(one: dict[str, Any], other: dict[str, Any]) -> bool:
    pairs = [
        (one["ditto"], other["ditto"]),
        *((one["resources"][name], other["resources"][name]) for name in one["resources"]),
    ]
    return all(mine <= its for mine, its in pairs) and any(mine < its for mine, its in pairs)


def table(rows: list[dict[str, Any]], refused: dict[str, str]) -> str:
    """The rows of :func:`summary` for people, and why other configurations were ``refused``."""
    board = rows[0]["configuration"]["board"]
    header = " ".join(f"{name:>14}" for name in FIELDS) + f" {'ditto':>8} {'itc':>8}  "
    lines = [
        f"{board}: ms an image, {rows[0]['kind']}; parts of the board are estimated (hls/machine/resources.py). "
        "*: none is faster with as few of every resource.",
        f"{'':2}{header}" + " ".join(f"{name:>6}" for name in RESOURCES),
    ]
    for row in rows:
        fields = " ".join(f"{row['configuration'][name] or 'board':>14}" for name in FIELDS)
        parts = " ".join(
            f"{row['resources'][name]:>6.0%}" if name in row["resources"] else f"{'-':>6}" for name in RESOURCES
        )
        lines.append(f"{'*' if row['best'] else ' ':2}{fields} {row['ditto']:>8.1f} {row['itc']:>8.1f}  {parts}")
    lines += [f"left out: {name}: {why}" for name, why in refused.items()]
    return "\n".join(lines) + "\n"
