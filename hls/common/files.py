"""Files that are written whole or not at all, whichever other process writes there."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a file that becomes ``path``, whole or not at all. OSError leaves what was at ``path``; ValueError as of
    :func:`check_kind`."""
    with replacing_file(path) as temporary, temporary.open("xb") as file:
        write(file)


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A context with the name of a file beside ``path`` that no other process writes to: what is there in the end becomes
    ``path``. ValueError as of :func:`check_kind`, OSError where it cannot be written."""
    check_kind(path)
    with beside(path, named=path) as temporary:
        yield temporary
        os.replace(temporary, path)


def check_kind(path: Path) -> None:
    """ValueError where ``path`` is there and no file: a device or FIFO would be replaced. OSError for a name too long."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} cannot be written: expected a file, not a folder, device or FIFO")


@contextlib.contextmanager
def beside(path: Path, named: Path) -> Iterator[Path]:
    """A context with a name that nobody else has, in the folder of ``path``; nothing is there in the end. An OSError speaks of
    ``named``."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
    except OSError as error:
        if error.errno is None:  # of a library that writes; it has a message alone
            raise OSError(f"{named}: {error}") from error
        raise OSError(error.errno, error.strerror, str(named)) from error
    finally:
        temporary.unlink(missing_ok=True)
