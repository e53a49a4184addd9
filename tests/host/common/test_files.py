"""Files that commands leave: whole or not at all, and refused before where they cannot be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from ditto_zynq.host.common import files


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


@pytest.mark.parametrize("check", [files.check_file, files.check_folder])
def test_what_the_system_refuses_is_said_with_what_was_expected(check):
    """In /proc nobody makes files, and Linux calls it "No such file or directory"."""
    with pytest.raises(
        OSError, match=r"cannot be written .No such file or directory., expected a f.* written to"
    ) as error:
        check(Path("/proc/x.json"))
    assert error.value.filename == "/proc/x.json"


def test_what_can_be_made_is_not_made_yet(tmp_path):
    files.check_file(tmp_path / "x.json")
    files.check_folder(tmp_path / "deep" / "folder")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="expected a file in a folder that exists"):
        files.check_file(tmp_path / "missing" / "x.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file, expected a folder"):
        files.check_folder(tmp_path / "file" / "x")
