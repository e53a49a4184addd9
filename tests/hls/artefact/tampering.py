"""A model folder, changed as someone who tampers would."""

from __future__ import annotations

import hashlib
import json

from ditto_zynq.hls.artefact.model import MANIFEST, Files

from tests.helpers import change_json

UNET = Files("unet")
CONFIG, GRAPH, TABLES, WEIGHTS, FILES = UNET.config, UNET.graph, UNET.tables, UNET.weights, UNET.all


def rehash(folder) -> None:
    """Make the manifest agree with changed files, as someone who tampers would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def changed_json(folder, name, change) -> None:
    change_json(folder / name, change)
    rehash(folder)


def quantization(**fields):
    return lambda data: data["quantization_config"].update(fields)


def listed(folder, **names) -> None:
    change_json(folder / MANIFEST, lambda manifest: manifest["sha256"].update(names))
