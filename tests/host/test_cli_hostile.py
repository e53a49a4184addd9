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
from ditto_zynq.hls import build as builder
from ditto_zynq.hls.notices import PrecisionWarning
from ditto_zynq.host import files
from ditto_zynq.host.cli import main
from ditto_zynq.host.emulator import EmulatorDevice
from PIL import Image
from safetensors import SafetensorError

NUMBERS = ["nan", "", "x", "1e3", "99999999999999999999x"]  # none of which is an integer
COUNTS = [*NUMBERS, "0", "-1", "99999999999999999999"]
SEEDS = [*NUMBERS, "-1", str(2**64)]
REALS = ["", "x", "nan"]
POSITIVE = [*REALS, "0", "-1"]
LABELS = ["", "x", "-1", "1-", "2-1", "0,,1", "nan", "0-99999999999", "7"]
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
FLEET = {"workers": [*NUMBERS, "0", "-1", "1000000"], "cluster": ["", "nonsense"]}
EMULATED = {"board": BOARDS, "hardware": HARDWARE, "backend": ["", "nope"]}
BAD = {
    "generate": {
        "model": NO_FOLDER, "count": COUNTS, "output": NO_IMAGES, "labels": LABELS, "prompt": ["a cat"], "seed": SEEDS,
        "guidance": [*REALS, "3"], "batch": COUNTS[:-1], "device": ["", "nope", "remote:", "remote:x:y"],
        "bitstreams": [], "memory": [*NUMBERS, "0", "-1"], "deadline": POSITIVE, "flow": ["", "both"],
        "summary": NO_FILE, **FLEET, **EMULATED,
    },
    "profile": {
        "model": NO_FOLDER, "output": NO_FILE, "batch": COUNTS, "labels": LABELS, "seed": SEEDS, "flow": ["", "both"],
        "plots": FOLDER_TO_WRITE, "memory": [*NUMBERS, "0", "-1"], **EMULATED,
    },
    "compare": {
        "models": NO_FOLDER, "output": NO_FILE, "batch": COUNTS, "seed": SEEDS, "architecture": ["", "nope"],
        "bandwidths": ["", "x", "nan", "inf", "-1", "0", "2,,3", "2,1e9"], "setting": ["", "nope"],
        "plots": FOLDER_TO_WRITE, "memory": [*NUMBERS, "0", "-1"], "board": BOARDS, "hardware": HARDWARE,
    },
    "explore": {
        "model": NO_FOLDER, "output": NO_FILE, "batch": COUNTS, "board": BOARDS, "hardware": HARDWARE, **FLEET,
        "vary": ["", "cores", "cores=", "cores=x", "cores=nan", "cores=0", "=4", "lanes=-1", "nope=1", "cores=9e999"],
    },
    "evaluate": {
        "model": NO_FOLDER, "against": ["missing", "file", "folder", "n" * 300], "count": COUNTS, "guidance": REALS,
        "reference": ["missing", "file", "folder", "emoji:", "n" * 300 + ".npz"], "seed": SEEDS, "batch": COUNTS[:-1],
        "output": FOLDER_TO_WRITE, "memory": [*NUMBERS, "0", "-1"], "board": BOARDS, "hardware": HARDWARE, **FLEET,
    },
    "csim": {
        "model": NO_FOLDER, "steps": [*COUNTS, "7"], "batch": COUNTS, "types": ["", "nope"], "seed": SEEDS, **EMULATED,
    },
    "build": {
        "output": FOLDER_TO_WRITE, "publish": FOLDER_TO_WRITE, "board": BOARDS, "hardware": HARDWARE,
    },
    "selftest": {
        "device": ["", "nope", "remote:"], "bitstreams": [], "batch": COUNTS, **EMULATED,
    },
}  # fmt: skip
ELSEWHERE = {"quantize", "serve"}  # whose options have tests of their own
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
    monkeypatch.chdir(tmp_path)

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("long work began")

    monkeypatch.setattr(EmulatorDevice, "execute", begun)
    monkeypatch.setattr(builder, "run_tools", begun)
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
    }
    return dict(needed.get(command, {}))


def invoke(command: str, given: dict[str, list[str]]):
    return CliRunner().invoke(main, [command, *(word for words in given.values() for word in words)])


def the_line(result) -> str:
    """Of an error; fails where there is a traceback, or anything else on stderr that speaks of an error."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code not in (0, None)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("device: ")]
    assert len(lines) == 1 and lines[0].startswith("Error: ") and len(lines[0]) > 15, result.stderr
    return lines[0]


@pytest.mark.parametrize(("command", "option", "value"), CASES)
def test_bad_input_is_refused_in_one_line(place, command, option, value):
    (parameter,) = (each for each in main.commands[command].params if each.name == option)
    words = [value] if isinstance(parameter, click.Argument) else [max(parameter.opts, key=len), value]
    before = sorted(path.name for path in place.rglob("*"))
    the_line(invoke(command, {**arguments(command), option: words}))
    assert sorted(path.name for path in place.rglob("*")) == before, "something was left behind"


COMMANDS = [*BAD, "boards"]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_is_one_line_and_130(place, monkeypatch, command):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.commands[command], "callback", interrupted)
    result = invoke(command, arguments(command))
    assert result.exit_code == 130 and result.stderr == "interrupted\n"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EROFS, "Read-only file system", "x.png"), "Error: x.png: Read-only file system"),
        (OSError(errno.ENOSPC, "No space left on device"), "Error: No space left on device"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), "Error: x: Is a directory"),
        (OSError("no such thing"), "Error: no such thing"),
        (SafetensorError("invalid header"), "Error: invalid header"),
        (MemoryError("9 GiB"), "Error: not enough memory: 9 GiB; take a smaller --batch or model"),
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


def test_files_are_written_whole_or_not_at_all(tmp_path):
    """Also by two at once: neither publishes what the other one has half written."""
    path = tmp_path / "x.txt"

    def write(file) -> None:
        file.write(b"first, ")
        files.write_text(path, "of another process")
        assert path.read_text() == "of another process"
        file.write(b"whole")

    files.write_atomically(path, write)
    assert path.read_text() == "first, whole"

    def fail(file) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*x\.txt'"):
        files.write_atomically(path, fail)
    assert path.read_text() == "first, whole" and list(tmp_path.iterdir()) == [path]

    def fail_without_a_number(file) -> None:
        raise OSError("encoder error -2 when writing image file")

    with pytest.raises(OSError, match=r"^/.*x\.txt: encoder error -2 when writing image file$"):
        files.write_atomically(path, fail_without_a_number)


def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    """As /dev/null and a FIFO, by root."""
    path = tmp_path / "x.txt"
    os.mkfifo(path)
    for call, *arguments in ((files.check_file, path), (files.write_text, path, "text")):
        with pytest.raises(
            ValueError, match=r"x\.txt cannot be written: expected a file, not a folder, device or FIFO"
        ):
            call(*arguments)
    assert path.is_fifo() and list(tmp_path.iterdir()) == [path]


def test_no_option_is_forgotten():
    """Whoever adds one says what is bad input for it."""
    assert set(main.commands) - ELSEWHERE - {"boards"} == set(BAD)
    for command, options in BAD.items():
        free = {each.name for each in main.commands[command].params if not getattr(each, "is_flag", False)}
        assert free == set(options), command
