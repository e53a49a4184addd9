"""Files that commands leave: whole or not at all, and known to be possible before anything long runs."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Through a file beside ``path`` that no other process writes to, renamed at the end; OSError leaves nothing. ValueError for
    what is there and no file: a device or a FIFO would be replaced."""
    _check_kind(path)
    with _beside(path, named=path) as temporary:
        with temporary.open("xb") as file:
            write(file)
        os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def check_file(path: Path) -> None:
    """ValueError or OSError where a file could not be written to ``path``; leaves nothing."""
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: expected a file in a folder that exists")
    _check_kind(path)
    with _beside(path, named=path) as temporary:
        temporary.write_bytes(b" ")


def _check_kind(path: Path) -> None:
    """ValueError where ``path`` is there and no file; OSError for a name that is too long."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} cannot be written: expected a file, not a folder, device or FIFO")


def check_folder(path: Path) -> None:
    """ValueError or OSError where ``path`` is no folder that could be written to, and cannot become one; leaves nothing."""
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise ValueError(f"{existing} is a file, expected a folder")
    with _beside(existing / path.name, named=path) as temporary:
        temporary.write_bytes(b" ")


@contextlib.contextmanager
def _beside(path: Path, named: Path) -> Iterator[Path]:
    """A name that nobody else has, in the folder of ``path``; nothing is there in the end. Errors speak of ``named``."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
    except OSError as error:
        if error.errno is None:  # of a library that writes; it has a message alone
            raise OSError(f"{named}: {error}") from error
        raise OSError(error.errno, error.strerror, str(named)) from error
    finally:
        temporary.unlink(missing_ok=True)
