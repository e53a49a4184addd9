"""Files that commands leave: whole or not at all, and known to be possible before anything long runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ...hls.common.files import beside, check_kind, write_atomically


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all. OSError where it cannot be."""
    write_atomically(path, lambda file: file.write(text.encode()))


def check_file(path: Path) -> None:
    """ValueError or OSError where a file could not be written to ``path``; leaves nothing."""
    with _expecting(path, "a file in a folder that can be written to"):
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError(f"{path} cannot be written: expected a file in a folder that exists")
        check_kind(path)
        with beside(path, named=path) as temporary:
            temporary.write_bytes(b" ")


def check_folder(path: Path) -> None:
    """ValueError or OSError where ``path`` is no folder that could be written to, and cannot become one; leaves nothing."""
    with _expecting(path, "a folder that can be made or written to"):
        existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
        if not existing.is_dir():
            raise ValueError(f"{existing} is a file, expected a folder")
        with beside(existing / path.name, named=path) as temporary:
            temporary.write_bytes(b" ")


@contextlib.contextmanager
def _expecting(path: Path, expected: str) -> Iterator[None]:
    """What the system refuses of ``path`` is said with what was ``expected``: alone, as "No such file or directory" of what is to
    be made, it says little."""
    try:
        yield
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error}), expected {expected}"
        raise OSError(error.errno, reason, str(path)) from error
