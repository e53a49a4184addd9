"""A folder that appears whole or not at all: it is written beside its place and takes it in one step."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of linux/fcntl.h and linux/fs.h
MARK, OLD = "saving-", ".old"


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder that becomes ``folder``, or takes the place of what is there, when the block ends without an error.

    A link stays, and what it names is replaced. A process that is killed leaves what was there before, and a folder beside it
    that the next one removes. Rights are those that the process's umask gives new files.
    """
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}.{MARK}"
    for abandoned in sorted(folder.parent.glob(f"{glob.escape(prefix)}*")):
        _clear(abandoned, folder)
    temporary, lock = _own_folder(folder.parent, prefix)
    try:
        yield temporary
        _give_default_rights(temporary)
        if folder.exists():
            _exchange(temporary, folder)
        else:
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _own_folder(parent: Path, prefix: str) -> tuple[Path, int | None]:
    """A new folder and its lock: None where the file system has no locks, so that nobody takes it for an abandoned one."""
    while True:
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = _lock(temporary)
            if temporary.is_dir():
                return temporary, lock
            os.close(lock)
        except (BlockingIOError, FileNotFoundError):  # another process took it for abandoned before it was locked
            continue
        except OSError:
            return temporary, None


def _lock(folder: Path) -> int:
    """A descriptor that holds the folder's lock until it is closed, at the latest with its process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _clear(abandoned: Path, folder: Path) -> None:
    """Remove what a killed process has left; where it is the only model left, put it back."""
    try:
        lock = _lock(abandoned)
    except OSError:  # in use by another process, gone, or not ours
        return
    try:
        if abandoned.suffix == OLD and not folder.exists():
            os.rename(abandoned, folder)
        else:
            shutil.rmtree(abandoned, ignore_errors=True)
    finally:
        os.close(lock)


def _give_default_rights(folder: Path) -> None:
    probe = folder / MARK
    probe.mkdir()
    mode = probe.stat().st_mode & 0o777
    probe.rmdir()
    for path in (folder, *folder.rglob("*")):
        path.chmod(mode if path.is_dir() else mode & 0o666)


def _exchange(new: Path, folder: Path) -> None:
    """Each path names what the other one named, at no time neither; where the file system cannot, one after the other."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # not every C library has it
    names = AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(folder)
    if exchange is not None and not exchange(*names, RENAME_EXCHANGE):
        return
    code = errno.ENOSYS if exchange is None else ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        raise OSError(code, os.strerror(code), str(folder))
    old = new.with_name(new.name + OLD)
    os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)
