"""Whether a quantized model can be written where it should be, found out before anything long runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ...hls.artefact.model import MANIFEST, ArtefactError
from ...hls.artefact.model import check_output as check_kind


def check_place(folder: Path, overwrite: bool = False) -> None:
    """ArtefactError where ``folder`` is anything but a new or empty one, or, with ``overwrite``, a quantized model; OSError where
    nothing can be written there. Leaves nothing behind."""
    check_kind(folder)
    folder = Path(os.path.realpath(folder))  # where it is written
    if (folder / MANIFEST).is_file() and not overwrite:
        raise ArtefactError(
            f"{folder} holds a quantized model; give another output folder, or --overwrite to replace it"
        )
    there = next(path for path in folder.parents if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=there):
            pass
    except OSError as error:
        reason = f"cannot be written ({error.strerror}), expected a place where a folder can be made"
        raise OSError(error.errno, reason, str(folder)) from error
