"""A folder is replaced whole or not at all, whenever its writer is killed."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ditto_zynq.hls.artefact import replace
from ditto_zynq.hls.artefact.replace import replacing

KILLED = """
import os, signal, sys
from pathlib import Path
from ditto_zynq.hls.artefact import replace
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
{before}
with replace.replacing(Path(sys.argv[1])) as folder:
    (folder / "content").write_text("new")
    {inside}
"""


def write(folder: Path, text: str) -> None:
    with replacing(folder) as temporary:
        (temporary / "part").mkdir()
        (temporary / "part" / "content").write_text(text)


def read(folder: Path) -> str:
    return (folder / "part" / "content").read_text()


def test_a_folder_takes_its_place_and_that_of_another(tmp_path):
    write(tmp_path / "model", "old")
    write(tmp_path / "model", "new")
    assert read(tmp_path / "model") == "new" and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_error_leaves_what_was_there(tmp_path):
    write(tmp_path / "model", "old")
    with pytest.raises(OSError, match="disk full"), replacing(tmp_path / "model"):
        raise OSError("disk full")
    assert read(tmp_path / "model") == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("before", "inside"),
    [
        ("", "die()"),
        ("replace.os.rename = die; replace._exchange = die", "pass"),
        ("exchange = replace._exchange; replace._exchange = lambda *names: (exchange(*names), die())", "pass"),
    ],
    ids=["while it is written", "before it is in place", "just after"],
)
def test_a_killed_writer_leaves_a_whole_folder_and_the_next_one_clears_up(tmp_path, before, inside):
    write(tmp_path / "model", "old")
    code = KILLED.format(before=before, inside=inside)
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "model")], capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert len(list(tmp_path.iterdir())) == 2, "the killed process has left its folder"
    found = (tmp_path / "model").rglob("content")
    assert [path.read_text() for path in found] in (["old"], ["new"])
    write(tmp_path / "model", "newer")
    assert read(tmp_path / "model") == "newer" and len(list(tmp_path.iterdir())) == 1


def test_the_folder_of_a_running_writer_is_left_alone(tmp_path):
    with replacing(tmp_path / "model") as first:
        (first / "content").write_text("first")
        write(tmp_path / "model", "second")
        assert (first / "content").read_text() == "first"
    assert (tmp_path / "model" / "content").read_text() == "first"


def test_folders_of_others_are_left_alone(tmp_path):
    for name in (".model.backup", ".model", "model.saving-x", ".other.saving-x"):
        (tmp_path / name).mkdir()
    write(tmp_path / "model", "new")
    assert len(list(tmp_path.iterdir())) == 5


class _CannotExchange:
    def renameat2(self, *_):
        ctypes.set_errno(errno.EINVAL)
        return -1


@pytest.fixture(params=[_CannotExchange, object], ids=["file system", "C library"])
def cannot_exchange(monkeypatch, request):
    """A file system, or a C library, that cannot exchange two names."""
    monkeypatch.setattr(replace.ctypes, "CDLL", lambda *_, **__: request.param())


def test_without_exchange_one_rename_follows_the_other(cannot_exchange, tmp_path):
    write(tmp_path / "model", "old")
    write(tmp_path / "model", "new")
    assert read(tmp_path / "model") == "new" and len(list(tmp_path.iterdir())) == 1


def test_killed_between_the_two_renames_the_old_folder_comes_back(cannot_exchange, tmp_path, monkeypatch):
    write(tmp_path / "model", "old")
    rename, renamed = os.rename, []

    def once(*names):
        if renamed:
            raise KeyboardInterrupt
        renamed.append(rename(*names))

    monkeypatch.setattr(replace.os, "rename", once)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "model", "new")
    monkeypatch.undo()
    assert not (tmp_path / "model").exists()
    with pytest.raises(OSError, match="disk full"), replacing(tmp_path / "model"):
        raise OSError("disk full")
    assert read(tmp_path / "model") == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("umask", "rights"), [(0o077, (0o700, 0o600)), (0o022, (0o755, 0o644)), (0o002, (0o775, 0o664))]
)
def test_rights_are_the_umask_s(tmp_path, umask, rights):
    before = os.umask(umask)
    try:
        write(tmp_path / "model", "new")
    finally:
        os.umask(before)
    folders = {(path.stat().st_mode & 0o777) for path in (tmp_path / "model", tmp_path / "model" / "part")}
    assert folders == {rights[0]} and (tmp_path / "model/part/content").stat().st_mode & 0o777 == rights[1]
