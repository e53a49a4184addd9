"""The folder beside an output where a pruning is under way: whoever has the same settings goes on there, one at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SETTINGS, LOCK = "settings.json", "lock"


@contextlib.contextmanager
def work_folder(path: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """A context in which ``path`` is this process's, to go on in where it is of the same ``settings``; it goes at the end, and
    stays where an error ends the work. ValueError for a folder that is of other settings, or of something else, or in use."""
    text = (json.dumps(settings, indent=1, sort_keys=True) + "\n").encode()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file, expected a place for a folder; move it, or give another output folder")
    if path.is_dir() and any(path.iterdir()):
        if not (path / SETTINGS).is_file():
            raise ValueError(f"{path} is no pruning's folder and not empty; move it, or give another output folder")
        if (path / SETTINGS).read_bytes() != text:
            raise ValueError(f"{path} is of a pruning with other settings; remove it, or give another output folder")
    path.mkdir(parents=True, exist_ok=True)
    with (path / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process prunes in {path}; wait for it, or give another output folder") from None
        (path / SETTINGS).write_bytes(text)
        yield path
        shutil.rmtree(path)
