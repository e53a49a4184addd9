"""How good a quantized pipeline's images are beside the float pipeline's, from the same noise and the same prompts or classes."""

from __future__ import annotations

import functools
import importlib.util
import shlex
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from ...hls.common.files import write_atomically
from ...hls.common.notices import SampleWarning
from ..zoo.emoji import CATEGORIES, load_clips, load_pictures
from ..zoo.emoji_models import CLIP_FRAMES
from ..zoo.mobilenet import FEATURES, features_of, load_mobilenet
from .quality import frechet_distance, gaussian, psnr

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
FETCHED = ("emoji", "clips")  # references that npm packages carry
CLASSIFIER = Path(__file__).parents[1] / "models" / "emoji-classifier.safetensors"


@dataclass(frozen=True)
class Requests:
    """What is drawn: image i is of ``prompts[i]`` or of class ``labels[i]``; its category is ``categories[i]`` (-1: unknown)."""

    prompts: tuple[str, ...]
    labels: tuple[int, ...]
    categories: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.categories)


Draw = Callable[[Sequence[range]], Iterator[tuple[range, np.ndarray]]]  # of batches of indices, in any order


def sample(draw: Draw, count: int, batch: int, folder: Path, description: str) -> np.ndarray:
    """Draw images uint8 [N, H, W, 3] of ``count`` requests, in batches of at most ``batch``; finished batches in ``folder`` are
    not drawn again, damaged ones are."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = [range(first, min(first + batch, count)) for first in range(0, count, batch)]
    paths = {indices: folder / f"{indices.start:06d}.npy" for indices in batches}
    drawn = {indices: _kept(path, len(indices)) for indices, path in paths.items()}
    missing = [indices for indices in batches if drawn[indices] is None]
    with tqdm(total=count, initial=count - sum(map(len, missing)), desc=description, unit="image") as progress:
        for indices, images in draw(missing):
            dense = np.ascontiguousarray(images)  # as it is read again: sums of features depend on the layout
            write_atomically(paths[indices], functools.partial(np.save, arr=dense))
            drawn[indices] = dense
            progress.update(len(indices))
    return np.concatenate([drawn[indices] for indices in batches])  # type: ignore[misc]


def _kept(path: Path, count: int) -> np.ndarray | None:
    """``count`` images of a batch that is finished; None where there is none, or where it is damaged, which is said."""
    if not path.is_file():
        return None
    try:
        images = np.load(path, allow_pickle=False)
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != count:
            raise ValueError(f"found {images.dtype} {images.shape}, expected {count} images of uint8")
    except Exception as error:  # there is no end to what a damaged array raises
        tqdm.write(f"{path} is damaged ({error}): its images are drawn again")
        return None
    return images


class Judge:
    """Judges images by MobileNetV2's features, their statistics over the reference images uint8 [N, 64, 64, 3], and a linear
    classifier, whose weights come with this package. FileNotFoundError where they are not there."""

    def __init__(self, reference: np.ndarray, classifier: Path = CLASSIFIER):
        if not classifier.is_file():
            raise FileNotFoundError(f"{classifier} is missing, which tells categories apart; install ditto-zynq again")
        self.network = load_mobilenet()
        self.head = nn.Linear(FEATURES, len(CATEGORIES))
        self.head.load_state_dict(load_file(classifier))
        self.statistics = gaussian(features_of(self.network, reference))
        self.warned = False

    def quality(self, images: np.ndarray, categories: Sequence[int]) -> dict[str, float]:
        """FID-MobileNetV2 of images uint8 [N, H, k * H, 3], k frames each, and the share whose category is recognised."""
        frames = _frames(images)
        if not self.warned:
            warn_of_few_images(len(frames))
            self.warned = True  # of float images first, then of as many quantized ones
        features = features_of(self.network, frames)
        with torch.no_grad():
            found = self.head(torch.from_numpy(features).float()).argmax(dim=1).numpy()
        wanted = np.repeat(np.asarray(categories), len(frames) // len(images))
        known = wanted >= 0
        result = {"FID-MobileNetV2": frechet_distance(gaussian(features), self.statistics)}
        return result | ({"category accuracy": float((found == wanted)[known].mean())} if known.any() else {})


def warn_of_few_images(count: int) -> None:
    """Warn, with a SampleWarning, where a Fréchet distance of ``count`` images is mostly one of their number: it needs a
    covariance of all features, and what fewer images leave out of it counts as distance."""
    if count < FEATURES:
        warnings.warn(
            f"FID-MobileNetV2 of {count} images is larger than that of many: it needs more than its {FEATURES} features; compare "
            f"only distances of as many images, or take -n {2 * FEATURES}",
            SampleWarning,
            stacklevel=3,
        )


def _frames(images: np.ndarray) -> np.ndarray:
    """Frames of clips [N, H, k * H, 3] as images [N * k, H, H, 3]."""
    count, height, _, channels = images.shape
    return images.reshape(count, height, -1, height, channels).swapaxes(1, 2).reshape(-1, height, height, channels)


def compare_images(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """The PSNR in dB of images uint8 [N, H, W, 3] from the same seeds, mean and median."""
    decibels = psnr(found / 127.5 - 1, expected / 127.5 - 1)
    return {"PSNR mean": float(decibels.mean()), "PSNR median": float(np.median(decibels))}


def published_metrics(
    found: np.ndarray, reference: np.ndarray, prompts: Sequence[str], folder: Path
) -> dict[str, float]:
    """FID and Inception score by torch-fidelity, CLIP score by torchmetrics: what is installed, and whose weights are here."""
    metrics = (("torch_fidelity", _inception_metrics), ("torchmetrics", _clip_score))
    result: dict[str, float] = {}
    for package, metric in metrics:
        if importlib.util.find_spec(package) is None:
            continue
        try:
            result |= metric(found, reference, prompts, folder)
        except (OSError, RuntimeError, ValueError) as error:  # weights are downloaded when they are first needed
            reason = " ".join(str(error).split())[:100]
            tqdm.write(f"the metrics of {package} are left out, as where its weights are not here: {reason}")
    return result


def _inception_metrics(
    found: np.ndarray, reference: np.ndarray, prompts: Sequence[str], folder: Path
) -> dict[str, float]:
    from torch_fidelity import calculate_metrics

    paths = []
    for name, images in (("found", _frames(found)), ("reference", reference)):
        paths.append(folder / f"{name}-png")
        paths[-1].mkdir(exist_ok=True)
        for index, image in enumerate(images):
            Image.fromarray(image).save(paths[-1] / f"{index:06d}.png")
    metrics = calculate_metrics(input1=str(paths[0]), input2=str(paths[1]), fid=True, isc=True, cuda=False)
    return {"FID": metrics["frechet_inception_distance"], "Inception score": metrics["inception_score_mean"]}


def _clip_score(found: np.ndarray, reference: np.ndarray, prompts: Sequence[str], folder: Path) -> dict[str, float]:
    if not prompts:
        return {}
    from torchmetrics.functional.multimodal import clip_score

    images = torch.from_numpy(_frames(found)).permute(0, 3, 1, 2)
    texts = np.repeat(np.asarray(prompts), len(images) // len(found)).tolist()
    return {"CLIP score": float(clip_score(images, texts))}


def load_reference(where: str) -> tuple[np.ndarray, Requests]:
    """Reference images uint8 [N, H, H, 3] and what to draw beside them.

    ``where``: ``emoji:FOLDER`` or ``clips:FOLDER`` (the packages of :mod:`..zoo.emoji`, fetched there where they are missing), or
    a folder of pictures, or an .npz file with ``images`` and, if it has them, ``prompts`` and ``labels``. ValueError, with these,
    for anything else, and for a FOLDER that does not exist: whoever mistypes one downloads nothing.
    """
    kind, _, folder = where.partition(":")
    if kind in FETCHED and folder and not Path(folder).is_dir():
        raise ValueError(
            f"found reference {where!r}, but there is no folder {folder}; give the one that pictures were fetched to, or make it "
            f"(mkdir -p {shlex.quote(folder)}): then they are fetched to it with npm, tens of megabytes"
        )
    if kind == "emoji" and folder:
        pictures = load_pictures(Path(folder))
        everything = pictures.captions, tuple(pictures.labels.tolist()), tuple(pictures.labels.tolist())
        return pictures.images, Requests(*everything)
    if kind == "clips" and folder:
        clips, pictures = load_clips(Path(folder), CLIP_FRAMES), load_pictures(Path(folder))
        known = dict(zip(pictures.captions, pictures.labels.tolist(), strict=True))
        categories = tuple(known.get(caption, -1) for caption in clips.captions)
        return clips.frames[:, ::3].reshape(-1, *clips.frames.shape[2:]), Requests(
            clips.captions, categories, categories
        )
    path = Path(where)
    if path.suffix == ".npz" and path.is_file():
        return _load_arrays(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES)
        if files:
            images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
            return images, Requests((), (-1,) * len(images), (-1,) * len(images))
    raise ValueError(
        f"found reference {where!r}, expected emoji:FOLDER, clips:FOLDER, a folder of pictures of one size, or an .npz of images"
    )


def _load_arrays(path: Path) -> tuple[np.ndarray, Requests]:
    """Images and requests of an .npz file; ValueError for one that is none, or holds others."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("images", "prompts", "labels") if name in arrays}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no readable .npz of images ({error})") from error
    images = found.get("images", np.zeros(0))
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise ValueError(
            f"{path}: found images {images.dtype} {images.shape}, expected uint8 [N, H, W, 3] under the name 'images'"
        )
    prompts = tuple(found["prompts"].tolist()) if "prompts" in found else ()
    labels = tuple(found["labels"].tolist()) if "labels" in found else (-1,) * max(len(prompts), len(images))
    return images, Requests(prompts, labels, (-1,) * len(labels))


def choose(requests: Requests, count: int, takes_prompts: bool, labels: Sequence[int]) -> Requests:
    """Choose ``count`` requests for a model that takes prompts, or that knows these ``labels``, evenly spread over what there is.
    ValueError where it takes prompts and there are none."""
    if not takes_prompts:
        taken = [labels[index % len(labels)] for index in range(count)]
        known = set(requests.categories) - {-1}
        return Requests((), tuple(taken), tuple(label if label in known else -1 for label in taken))
    if not requests.prompts:
        raise ValueError(
            "the model takes prompts, and the reference has none; give an .npz with prompts, or emoji:FOLDER"
        )
    total = len(requests.prompts)
    picked = [index * total // count % total for index in range(count)]
    return Requests(
        tuple(requests.prompts[index] for index in picked), (), tuple(requests.categories[index] for index in picked)
    )
