"""Gains alone and together."""

from __future__ import annotations

import pytest
from ditto_zynq.host.studies.gains import DESIGNS, PARTS, gains, table


def comparison(model, scale, ditto, board="zcu104"):
    """Of a model that takes ``scale`` of everything, and ``ditto`` of that in all designs but the dense array."""
    designs = [
        {"name": name, **dict.fromkeys(PARTS.values(), 100.0 * scale * (1 if name == "itc" else ditto))}
        for name in ("itc", *DESIGNS)
    ]
    return {"model": model, "kind": "emulated", "configuration": {"board": board}, "designs": designs}


def test_gains_that_multiply():
    found = gains([comparison("dense", 1, 0.5), comparison("pruned", 0.25, 0.5)])
    assert len(found) == len(DESIGNS) * len(PARTS)
    for gain in found:
        assert (gain.by_model, gain.by_design, gain.product, gain.together, gain.kept) == (4, 2, 8, 8, 1)


def test_what_is_lost_and_where():
    small = comparison("pruned", 0.25, 0.8)
    for design in small["designs"][1:]:
        design["dram_bytes_per_image"] = 50.0
    results = [comparison("dense", 1, 0.5), small]
    cycles = next(gain for gain in gains(results) if (gain.design, gain.part) == ("ditto", "cycles"))
    assert cycles.together == pytest.approx(5) and cycles.kept == pytest.approx(5 / 8)
    text = table(results)
    assert "pruned with ditto: 62% of the product is there; DRAM gains least, 2.00 times together" in text
    assert text.startswith("zcu104: times fewer than dense on the dense array takes (emulated)\n")


@pytest.mark.parametrize(
    "results", [[], [comparison("dense", 1, 1)], [comparison("a", 1, 1), comparison("b", 1, 1, "kv260")]]
)
def test_what_cannot_be_compared(results):
    with pytest.raises(ValueError, match=r"found \d models on .*, expected two or more on one"):
        gains(results)
