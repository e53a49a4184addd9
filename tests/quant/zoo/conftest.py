"""Small data in the place of what the shipped models are trained on."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

NAMES = ("RED HEART", "GRINNING FACE", "SLICE OF PIZZA", "CAT FACE", "ROCKET", "FLAG: JAPAN")
GROUPS = ("Symbols", "Smileys & Emotion", "Food & Drink", "Animals & Nature", "Travel & Places", "Flags")


def archive(path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as members:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(frames: int) -> bytes:
    """Lossless, 32 x 32: frame i has grey 4 * i."""
    grey = [Image.new("RGB", (32, 32), (4 * index,) * 3) for index in range(frames)]
    return encoded(grey[0], "WEBP", save_all=True, append_images=grey[1:], lossless=True, duration=20)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Both packages, small, where npm would put them."""
    folder = tmp_path_factory.mktemp("packages")
    random = np.random.default_rng(0)
    entries, files = [], {}
    for index, (name, category) in enumerate(zip(NAMES, GROUPS, strict=True)):
        entries.append({"name": name, "short_name": "x", "image": f"1f60{index}.png", "category": category})
    tones = {"1F3FB": {"image": "1f44b-1f3fb.png"}, "1F3FB-1F3FF": {"image": "missing.png"}}
    person = {"name": None, "short_name": "waving_hand", "image": "1f44b.png", "category": "People & Body"}
    entries += [person | {"skin_variations": tones}, person | {"category": "Component"}]
    for image in [entry["image"] for entry in entries] + ["1f44b-1f3fb.png"]:
        pixels = random.integers(0, 256, (64, 64, 4)).astype(np.uint8)
        pixels[:8] = 0  # see-through
        files[f"package/img/google/64/{image}"] = encoded(Image.fromarray(pixels), "PNG")
    listed = {"package/emoji.json": json.dumps(entries).encode()}
    archive(folder / "emoji-datasource-google-16.0.0.tgz", listed | files)
    clips = {f"package/assets/{name}.webp": animation(48) for name in ("1f600", "1f601-fe0f", "1f602")}
    clips |= {"package/assets/1f603.webp": animation(10), "package/assets/1fffff.webp": animation(48)}
    archive(folder / "lobehub-fluent-emoji-anim-1-1.0.0.tgz", clips)
    return folder
