"""Whether gains multiply: what a model that was made smaller and a design of the engine give alone, and together.

Made of comparisons (:mod:`.compare`) of several models on one board; the first is the one that the others were made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .compare import BASELINE

DESIGNS = ("difference", "ditto", "ditto+")
PARTS = {  # of a design's cycles for an image, or its bytes: where a gain is lost
    "cycles": "cycles_per_image",
    "multiplying": "multiplying_cycles_per_image",
    "vector": "vector_cycles_per_image",
    "DRAM": "dram_bytes_per_image",
}


@dataclass(frozen=True)
class Gain:
    """How many times less of ``part`` an image takes than with the first model on the dense array: by the smaller ``model``
    alone, by the ``design`` alone, and by both."""

    model: str
    design: str
    part: str
    by_model: float
    by_design: float
    together: float

    @property
    def product(self) -> float:
        """What both would give if gains multiplied."""
        return self.by_model * self.by_design

    @property
    def kept(self) -> float:
        """How much of the product there is."""
        return self.together / self.product


def gains(results: Sequence[dict[str, Any]]) -> list[Gain]:
    """The gains of all models but the first, by all designs and parts. ``results``: comparisons as :func:`.compare.compare` makes
    them, with ``model``, on one board. ValueError for fewer than two models, or several boards."""
    boards = sorted({str(result["configuration"]["board"]) for result in results})
    if len(results) < 2 or len(boards) != 1:
        raise ValueError(
            f"found {len(results)} models on {', '.join(boards) or 'no board'}, expected two or more on one"
        )
    first = _designs(results[0])
    found = []
    for result in results[1:]:
        other = _designs(result)
        for design in DESIGNS:
            for part, field in PARTS.items():
                base = first[BASELINE][field]
                ratios = (base / each[field] for each in (other[BASELINE], first[design], other[design]))
                found.append(Gain(str(result["model"]), design, part, *ratios))
    return found


def _designs(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {design["name"]: design for design in result["designs"]}


def table(results: Sequence[dict[str, Any]]) -> str:
    """The gains for people, and in which part of the work most is lost."""
    config = results[0]["configuration"]
    lines = [
        f"{config['board']}: times fewer than {results[0]['model']} on the dense array takes ({results[0]['kind']})",
        f"{'model':16} {'design':12} {'part':12} {'model':>7} {'design':>7} {'product':>8} {'together':>9} {'kept':>6}",
    ]
    found = gains(results)
    for gain in found:
        lines.append(
            f"{gain.model:16} {gain.design:12} {gain.part:12} {gain.by_model:>7.2f} {gain.by_design:>7.2f} "
            f"{gain.product:>8.2f} {gain.together:>9.2f} {gain.kept:>6.0%}"
        )
    return "\n".join([*lines, *_reasons(found)]) + "\n"


def _reasons(found: Sequence[Gain]) -> Iterator[str]:
    """What the parts say of each model and design: which of them keeps least of its product."""
    for model, design in dict.fromkeys((gain.model, gain.design) for gain in found):
        parts = [gain for gain in found if (gain.model, gain.design) == (model, design)]
        cycles = next(gain for gain in parts if gain.part == "cycles")
        least = min((gain for gain in parts if gain.part != "cycles"), key=lambda gain: gain.together)
        yield (
            f"{model} with {design}: {cycles.kept:.0%} of the product is there; {least.part} gains least, {least.together:.2f} "
            f"times together, and bounds the rest"
        )
