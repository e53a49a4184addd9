"""Pipeline folders that are changed so that they cannot be quantized, and the one line that says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ditto_zynq.quant import quantize as quantizing
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.quantize import quantize
from safetensors.torch import load_file, save_file

SCHEDULE, OPTIONS = Schedule("ddim", 2, 0.0, 1), Options(2, fine=0)
DDPM = Schedule("ddpm", 2, 0.0, 1)
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
Change = Callable[[Path], Any]


def late(*_: Any, **__: Any) -> None:
    raise AssertionError("the model was calibrated, or prompts were encoded, before it was refused")


def change_json(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def unet(**values: Any) -> Change:
    return change_json("unet/config.json", **values)


def scheduler(**values: Any) -> Change:
    return change_json("scheduler/scheduler_config.json", **values)


def rename_weights(old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        save_file(
            {name.replace(old, new): value for name, value in weights.items()}, folder / WEIGHTS, {"format": "pt"}
        )

    return change


def prune(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    name = "down_blocks.0.resnets.0.conv1"
    weights |= {f"{name}.weight": weights[f"{name}.weight"][:3], f"{name}.bias": weights[f"{name}.bias"][:3]}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def move(old: str, new: str) -> Change:
    return lambda folder: (folder / old).rename(folder / new)


def refuse(
    source: Path, tmp_path: Path, change: Change, message: str, schedule: Schedule = SCHEDULE, **more: Any
) -> None:
    shutil.copytree(source, tmp_path / "float")
    change(tmp_path / "float")
    with pytest.MonkeyPatch.context() as patch, pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        patch.setattr(quantizing, "calibrate", late)
        patch.setattr(quantizing, "encode_prompts", late)
        quantize(tmp_path / "float", tmp_path / "out", schedule, **{"options": OPTIONS, **more})
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["float"], "something was left behind"
