"""Files that are written whole or not at all, whichever other process writes there."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """``write`` is given an empty file; OSError leaves what was at ``path``."""
    with replacing_file(path) as temporary, temporary.open("xb") as file:
        write(file)


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """The name of a file beside ``path`` that no other process writes to: what is there in the end becomes ``path``."""
    with beside(path, named=path) as temporary:
        yield temporary
        os.replace(temporary, path)


@contextlib.contextmanager
def beside(path: Path, named: Path) -> Iterator[Path]:
    """A name that nobody else has, in the folder of ``path``; nothing is there in the end. Errors speak of ``named``."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(named)) from error
    finally:
        temporary.unlink(missing_ok=True)
