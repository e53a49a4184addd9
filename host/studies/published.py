"""What Ditto's authors published (HPCA 2025, arXiv:2501.11211), each number with where it stands: the only place that has them.

Averages over the paper's seven models unless a name says otherwise. The paper's body was not at hand: the abstract was read
itself, what else stands here is from slides about the paper and from notes of people who read it, so "by notes" means second
hand. The accelerators of table III are in :mod:`.paper_setting`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A number as it is shown, and its figure or section in the paper, with how it is known."""

    text: str
    where: str


ZERO = Published("44.5 %", "section on similarity, by slides (44.48 %)")
FITS_4_BITS = Published("96.0 %", "figure 5, by notes (96.01 %, zeros too)")
CLASSES_OF_SPATIAL = Published("~26 / 48 / 26 %", "figure 5, read off it by notes")
CLASSES_OF_CODES = Published("~18 / 40 / 42 %", "figure 5, read off it by notes")
COSINE = Published("0.983 (0.947)", "figure 3, by notes: mean, and the least of the models")
SPATIAL_COSINE = Published("0.31", "figure 3, by notes")
RANGE = Published("8.96 (DDPM 25.0)", "figure 4, by notes")
BIT_OPERATIONS_OF_DDPM = Published("DDPM 68.8 %", "section on bit operations, of DDPM, by notes")
BIT_OPERATIONS_AGAINST_CODES = Published("53.3 %", "section on bit operations, by slides")
BIT_OPERATIONS_AGAINST_SPATIAL = Published("23.1 %", "section on bit operations, by slides")
ACCESSES_OF_DIFFERENCES = Published("2.75 x", "figure 8, by notes")
ACCESSES_OF_DITTO = Published("1.56 x", "figure 14, by notes")
ACCESSES_OF_DITTO_PLUS = Published("1.36 x", "figure 14, by notes")
DEFO_AGREEMENT = Published("92 %", "figure 17, of Stable Diffusion, by notes")
DEFO_ORIGINAL = Published("14.4 %", "figure 17, by notes")
SPEEDUP = Published("up to 1.5", "abstract")
ENERGY = Published("-17.7 %", "abstract (17.74 % saved against other accelerators)")
