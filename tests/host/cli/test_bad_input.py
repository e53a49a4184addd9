"""Every command with bad input, as a hostile user gives it: one line and a non-zero exit code, before anything long runs."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from diffusers import DDPMScheduler, DiffusionPipeline
from ditto_zynq.hls.build import project as builder
from ditto_zynq.hls.common.notices import PrecisionWarning
from ditto_zynq.host.cli.app import main
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.devices.remote_board import Server
from ditto_zynq.host.studies import report
from ditto_zynq.quant import quantize as quantizer
from ditto_zynq.quant.judge import evaluate as judges
from ditto_zynq.quant.prune import trajectories
from PIL import Image
from safetensors import SafetensorError

from tests.pipelines import unet2d

NUMBERS = ["nan", "", "x", "1e3", "99999999999999999999x"]  # none of which is an integer
COUNTS = [*NUMBERS, "0", "-1", "99999999999999999999"]
SEEDS = [*NUMBERS, "-1", str(2**64)]
REALS = ["", "x", "nan"]
POSITIVE = [*REALS, "0", "-1"]
HUGE = ("9223372036854775808", "99999999999999999999", "0-99999999999", "0-99999999999999999999")
LABELS = ["", "x", "-1", "1-", "2-1", "0,,1", "nan", "7", *HUGE]
NO_FOLDER = ["missing", "file", "", "n" * 300]
NO_FILE = ["missing/file.json", "folder", "n" * 300 + ".json", "file/x.json", "/proc/x.json"]
NO_IMAGES = [
    "missing/x.png",
    "folder",
    "x.gif",
    "n" * 300 + ".png",
    "n" * 245 + ".png",
    "file/x.png",
    "/proc/x.png",
    "",
]
HARDWARE = ["missing", "folder", "file", "n" * 300]
BOARDS = ["", "nope", "\udcff"]
FOLDER_TO_WRITE = ["file", "file/x", "n" * 300, "/proc/x"]
BITSTREAMS = ["missing", "file", "folder", "n" * 300]
FLEET = {"workers": [*NUMBERS, "0", "-1", "1000000"], "cluster": ["", "nonsense"]}
EMULATED = {"board": BOARDS, "hardware": HARDWARE, "backend": ["", "nope"]}
LONG = {  # what takes long, or waits
    "emulator": (EmulatorDevice, "execute"),
    "csim": (CSimDevice, "execute"),
    "tools": (builder, "run_tools"),
    "calibration": (quantizer, "calibrate"),
    "recording": (trajectories, "_run"),
    "judge": (judges, "Judge"),
    "clients": (Server, "wait_for_termination"),
}
EXECUTE = EmulatorDevice.execute
THERE = ["blank", "file", "float", "folder", "latin", "lines", "model", "pictures", "unet"]  # in the working folder
BAD = {
    "generate": {
        "model": NO_FOLDER,
        "count": COUNTS,
        "output": NO_IMAGES,
        "labels": LABELS,
        "prompt": ["a cat"],
        "seed": SEEDS,
        "guidance": [*REALS, "3"],
        "batch": COUNTS[:-1],
        "device": ["", "nope", "remote:", "remote:x:y"],
        "bitstreams": BITSTREAMS,
        "memory": [*NUMBERS, "0", "-1"],
        "deadline": POSITIVE,
        "flow": ["", "both"],
        "summary": NO_FILE,
        **FLEET,
        **EMULATED,
    },
    "profile": {
        "model": NO_FOLDER,
        "output": NO_FILE,
        "batch": COUNTS,
        "labels": LABELS,
        "seed": SEEDS,
        "flow": ["", "both"],
        "plots": FOLDER_TO_WRITE,
        "memory": [*NUMBERS, "0", "-1"],
        **EMULATED,
    },
    "compare": {
        "models": NO_FOLDER,
        "output": NO_FILE,
        "batch": COUNTS,
        "seed": SEEDS,
        "architecture": ["", "nope"],
        "bandwidths": ["", "x", "nan", "inf", "-1", "0", "2,,3", "2,1e9"],
        "setting": ["", "nope"],
        "plots": FOLDER_TO_WRITE,
        "memory": [*NUMBERS, "0", "-1"],
        "board": BOARDS,
        "hardware": HARDWARE,
    },
    "explore": {
        "model": NO_FOLDER,
        "output": NO_FILE,
        "batch": COUNTS,
        "board": BOARDS,
        "hardware": HARDWARE,
        **FLEET,
        "vary": ["", "cores", "cores=", "cores=x", "cores=nan", "cores=0", "=4", "lanes=-1", "nope=1", "cores=9e999"],
    },
    "evaluate": {
        "model": NO_FOLDER,
        "against": ["missing", "file", "folder", "n" * 300],
        "count": COUNTS,
        "guidance": REALS,
        "reference": ["missing", "file", "folder", "emoji:", "emoji:missing", "n" * 300 + ".npz"],
        "seed": SEEDS,
        "batch": COUNTS[:-1],
        "output": FOLDER_TO_WRITE,
        "memory": [*NUMBERS, "0", "-1"],
        "board": BOARDS,
        "hardware": HARDWARE,
        **FLEET,
    },
    "csim": {
        "model": NO_FOLDER,
        "steps": [*COUNTS, "7"],
        "batch": COUNTS,
        "types": ["", "nope"],
        "seed": SEEDS,
        **EMULATED,
    },
    "build": {"output": FOLDER_TO_WRITE, "publish": FOLDER_TO_WRITE, "board": BOARDS, "hardware": HARDWARE},
    "selftest": {"device": ["", "nope", "remote:"], "bitstreams": BITSTREAMS, "batch": COUNTS, **EMULATED},
    "quantize": {
        "model": ["missing", "file", "folder", "", "n" * 300],
        "output": [*FOLDER_TO_WRITE, "pictures"],
        "scheduler": ["", "nope", "DDIM"],
        "steps": [*COUNTS, "1001"],
        "eta": [*REALS, "-1", "1.5"],
        "groups": [*COUNTS, "3"],
        "trajectories": COUNTS,
        "norm": [*REALS, "-1", "17", "inf"],
        "fine": [*NUMBERS, "-1"],
        "labels": LABELS,
        "prompts": ["missing", "folder", "", "n" * 300, "latin", "blank", "lines"],
        "guidance": [*REALS, "-1", "inf"],
        "prompt_weight": [*REALS, "-1", "17"],
        "seed": SEEDS,
        "variant": ["fp16", "", "n" * 300],
        "sample_size": ["", "x", "0", "64x", "x64", "8x8x8", "-1", "nan"],
    },
    "prune": {
        "model": ["missing", "file", "folder", "", "n" * 300],
        "output": [*FOLDER_TO_WRITE, "pictures"],
        "macs": [*POSITIVE, "1", "1.5", "inf", "1e-9"],
        "widths": ["", "nope"],
        "criterion": ["", "nope"],
        "steps": [*NUMBERS, "-1"],
        "runs": COUNTS,
        "scheduler": ["", "nope", "DDIM"],
        "run_steps": [*COUNTS, "1001"],
        "labels": LABELS,
        "prompts": ["missing", "folder", "", "n" * 300, "latin", "blank", "lines"],
        "tile": COUNTS,
        "lanes": COUNTS,
        "seed": SEEDS,
        "variant": ["fp16", "", "n" * 300],
        "sample_size": ["", "x", "0", "64x", "x64", "8x8x8", "-1", "nan"],
    },
    "serve": {
        "port": [*NUMBERS, "-1", "65536"],
        "address": ["", "nowhere.invalid", "300.1.1.1", "127.0.0.1:1"],
        "token": ["", "\n", "é"],
        "accelerator": ["", "nope", "board"],
        "bitstreams": FOLDER_TO_WRITE,
        **EMULATED,
    },
}
WITH = {"bitstreams": ["--device", "board"]}  # without which an option is not looked at
CASES = [
    pytest.param(command, option, value, id=f"{command}-{option}-{value[:20]!r}")
    for command, options in BAD.items()
    for option, values in options.items()
    for value in values
]


@pytest.fixture
def place(tiny_folder, tmp_path, monkeypatch) -> Path:
    """A working folder with a model, an empty folder, and a file; where nothing long may begin."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("neither a model nor JSON")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "float").mkdir()
    (tmp_path / "float" / "model_index.json").write_text("{}")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "pictures" / "black.png")
    (tmp_path / "latin").write_bytes("élan".encode("latin-1"))
    (tmp_path / "blank").write_text("\n \n")
    (tmp_path / "lines").write_text("a cat\n")
    unet2d().save_pretrained(tmp_path / "unet" / "unet")
    DDPMScheduler().save_pretrained(tmp_path / "unet" / "scheduler")
    monkeypatch.chdir(tmp_path)

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("long work began")

    def offline(*_: object, **__: object) -> None:
        raise OSError("there is no network here")

    for owner, name in LONG.values():
        monkeypatch.setattr(owner, name, begun)
    monkeypatch.setattr(DiffusionPipeline, "download", offline)
    return tmp_path


def arguments(command: str) -> dict[str, list[str]]:
    """What a command needs at least, by parameter."""
    needed = {
        "generate": {"model": ["model"], "quiet": ["--quiet"]},
        "profile": {"model": ["model"]},
        "compare": {"models": ["model"]},
        "explore": {"model": ["model"]},
        "evaluate": {
            "model": ["model"],
            "against": ["--against", "float"],
            "reference": ["--reference", "pictures"],
            "output": ["-o", "quality"],
        },
        "csim": {"model": ["model"]},
        "build": {"output": ["-o", "build"]},
        "quantize": {
            "model": ["unet"],
            "output": ["-o", "out"],
            "steps": ["--steps", "2"],
            "groups": ["--groups", "1"],
            "trajectories": ["--trajectories", "1"],
        },
        "prune": {
            "model": ["unet"],
            "output": ["-o", "out"],
            "macs": ["--macs", "0.6"],
            "runs": ["--runs", "1"],
            "run_steps": ["--run-steps", "2"],
            "steps": ["--steps", "0"],
            "tile": ["--tile", "1"],
        },
        "serve": {"port": ["--port", "0"], "bitstreams": ["--bitstreams", "served"]},
    }
    return dict(needed.get(command, {}))


def invoke(command: str, given: dict[str, list[str]]):
    return CliRunner().invoke(main, [command, *(word for words in given.values() for word in words)])


def the_line(result) -> str:
    """Of an error; fails where there is a traceback, or anything else on stderr that speaks of an error."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code not in (0, None)
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("device: ", "compiling "))]
    assert len(lines) == 1 and lines[0].startswith("Error: ") and len(lines[0]) > 15, result.stderr
    return lines[0]


@pytest.mark.parametrize(("command", "option", "value"), CASES)
def test_bad_input_is_refused_in_one_line(place, command, option, value):
    (parameter,) = (each for each in main.commands[command].params if each.name == option)
    words = [value] if isinstance(parameter, click.Argument) else [max(parameter.opts, key=len), value]
    before = sorted(path.name for path in place.rglob("*"))
    more = {"with": WITH.get(option, [])} if "device" in BAD[command] else {}
    the_line(invoke(command, {**arguments(command), option: words, **more}))
    assert sorted(path.name for path in place.rglob("*")) == before, "something was left behind"


COMMANDS = [*BAD, "boards"]
IN_THE_MIDDLE = {
    **dict.fromkeys(("generate", "profile", "compare", "explore", "selftest"), LONG["emulator"]),
    "csim": LONG["csim"],
    "build": LONG["tools"],
    "quantize": LONG["calibration"],
    "prune": LONG["recording"],
    "evaluate": LONG["judge"],
    "serve": LONG["clients"],
    "boards": (report, "boards_text"),
}


def stops(error: BaseException):
    def stop(*_: object, **__: object) -> None:
        raise error

    return stop


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_is_one_line_and_130(place, monkeypatch, command):
    """In the middle of what each does; no output is there, whole or half."""
    monkeypatch.setattr(*IN_THE_MIDDLE[command], stops(KeyboardInterrupt()))
    result = invoke(command, arguments(command))
    assert result.exit_code == 130, result.output
    assert result.stderr.splitlines()[-1].startswith("interrupted") and "Traceback" not in result.stderr
    left = {"build": ["build"], "serve": ["served"], "prune": ["out.partial"]}.get(command, [])
    assert sorted(path.name for path in place.iterdir()) == sorted([*THERE, *left])


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"selftest"}))  # which goes on, and says what failed
def test_a_full_disk_in_the_middle_is_one_line(place, monkeypatch, command):
    monkeypatch.setattr(*IN_THE_MIDDLE[command], stops(OSError(errno.ENOSPC, "No space left on device")))
    result = invoke(command, arguments(command))
    assert result.exit_code == 1 and result.stderr.splitlines()[-1] == "Error: No space left on device"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["generate", "profile", "explore"])
def test_a_disk_that_is_full_at_the_end_leaves_no_output(place, monkeypatch, command):
    """Of the file that a command is for, when its work is done."""
    monkeypatch.setattr(EmulatorDevice, "execute", EXECUTE)
    monkeypatch.setattr(os, "replace", stops(OSError(errno.ENOSPC, "No space left on device")))
    output = "out.json" if command in ("profile", "explore") else "out.png"
    given = ["-o", output, *(["-n", "1"] if command == "generate" else ["--batch", "1"])]
    result = invoke(command, {**arguments(command), "given": given})
    assert result.exit_code == 1 and "No space left on device" in result.stderr.splitlines()[-1], result.stderr
    assert "Traceback" not in result.stderr and not (place / output).exists()
    assert not list(place.glob("*.partial-*")), "a folder without batches is none to go on from"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EROFS, "Read-only file system", "x.png"), "Error: x.png: Read-only file system"),
        (OSError(errno.ENOSPC, "No space left on device"), "Error: No space left on device"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), "Error: x: Is a directory"),
        (OSError("no such thing"), "Error: no such thing"),
        (ConnectionResetError(), "Error: ConnectionResetError"),
        (SafetensorError("invalid header"), "Error: invalid header"),
        (MemoryError("9 GiB"), "Error: not enough memory: 9 GiB; take a smaller --batch or model"),
        (MemoryError(), "Error: not enough memory; take a smaller --batch or model"),
    ],
)
def test_what_the_machine_refuses_is_one_line(place, monkeypatch, command, error, line):
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main.commands[command], "callback", refused)
    assert the_line(invoke(command, arguments(command))) == line


def test_a_bug_keeps_its_traceback(place, monkeypatch):
    monkeypatch.setattr(main.commands["boards"], "callback", lambda **_: {}["missing"])
    assert isinstance(invoke("boards", {}).exception, KeyError)


def test_only_our_own_warnings_are_shown(place, monkeypatch):
    def warned(**_: object) -> None:
        warnings.warn("a package is old", stacklevel=1)
        logging.getLogger("torch").error("something went on")
        warnings.warn("18.6 % of the codes saturate", PrecisionWarning, stacklevel=1)

    monkeypatch.setattr(main.commands["boards"], "callback", warned)
    result = invoke("boards", {})
    assert result.exit_code == 0 and result.stderr == "warning: 18.6 % of the codes saturate\n"
    assert not logging.root.manager.disable


@pytest.mark.parametrize("arguments_", [["--bogus"], ["bogus"], ["boards", "extra"], ["boards", "-x"]])
def test_a_wrong_call_is_one_line(arguments_):
    assert arguments_[-1] in the_line(CliRunner().invoke(main, arguments_))


def test_a_name_that_is_no_text(tmp_path):
    """Linux' names are bytes: what is not UTF-8 is read, refused and shown like any other."""
    name = os.fsencode(tmp_path) + b"/\xff\xfe"
    command = [sys.executable, "-m", "ditto_zynq.host.cli", "build", "--project-only", "-o", name]
    result = subprocess.run(command, capture_output=True)
    assert result.returncode == 0 and b"files for zcu104" in result.stdout, result.stderr
    assert os.path.isdir(name)


def test_no_option_is_forgotten():
    """Whoever adds one says what is bad input for it."""
    assert set(main.commands) - {"boards"} == set(BAD) == set(IN_THE_MIDDLE) - {"boards"}
    assert all(values for options in BAD.values() for values in options.values())
    for command, options in BAD.items():
        free = {each.name for each in main.commands[command].params if not getattr(each, "is_flag", False)}
        assert free == set(options), command
