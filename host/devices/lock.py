"""Only one process at a time drives a board: a lock that ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from pathlib import Path
from typing import IO

from ..common.errors import DeviceError


class BoardLock:
    """A board's lock, held from construction to ``release``. DeviceError, naming the process that holds it, where another one
    does."""

    def __init__(self, board: str, folder: Path | None = None):
        name = re.sub(r"[^\w.-]", "-", board)
        self.path = Path(folder or tempfile.gettempdir()) / f"ditto-zynq-{name}.lock"
        self._file: IO[str] | None = self.path.open("a+")
        if self.path.stat().st_uid == os.getuid():
            self.path.chmod(0o666)  # other users lock the same board
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise DeviceError(
                f"{board} is in use by {holder}; wait until it has finished, or end it ({self.path} is its lock)"
            ) from None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()}")
        self._file.flush()

    def release(self) -> None:
        """Let another process have the board."""
        if self._file is not None:
            self._file.close()
            self._file = None
