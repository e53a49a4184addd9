"""hls4ml's fixed-point types: a value is an integer, its code, times ``2**-fractional``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

HALF_UP, HALF_EVEN, DOWN = "RND", "RND_CONV", "TRN"
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    HALF_UP: lambda steps: np.floor(steps) + (steps - np.floor(steps) >= 0.5),  # steps + 0.5 itself may round up
    HALF_EVEN: np.rint,
    DOWN: np.floor,
}
SATURATIONS = ("SAT", "SAT_SYM", "WRAP")
WIDEST = 48  # bits of a type whose codes float64 holds


class Unsupported(ValueError):
    """A layer or a type that the engine does not compute exactly; the message says what to change."""


@dataclass(frozen=True)
class FixedPoint:
    """An ap_fixed or ap_ufixed type; ``rounding`` and ``saturation`` are AMD's names without ``AP_``."""

    width: int
    fractional: int
    signed: bool
    rounding: str = HALF_UP
    saturation: str = "SAT"

    @staticmethod
    def of(precision: Any, what: str) -> FixedPoint:
        """The type that hls4ml describes by ``precision``, of ``what``. Unsupported for other types and modes."""
        rounding = str(getattr(precision, "rounding_mode", "")).rsplit(".", 1)[-1]
        saturation = str(getattr(precision, "saturation_mode", "")).rsplit(".", 1)[-1]
        if rounding not in ROUNDINGS or saturation not in SATURATIONS or precision.width > WIDEST:
            raise Unsupported(
                f"{what}: found the type {precision}, expected fixed or ufixed of at most {WIDEST} bits with "
                f"{', '.join(ROUNDINGS)} and {', '.join(SATURATIONS)}"
            )
        return FixedPoint(precision.width, precision.width - precision.integer, precision.signed, rounding, saturation)

    @property
    def rounds(self) -> bool:
        """Whether it rounds to the nearest code, else down."""
        return self.rounding != DOWN

    @property
    def saturates(self) -> bool:
        """Whether values beyond the limits become the limits, else they wrap."""
        return self.saturation != "WRAP"

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest code."""
        high = (1 << self.width - self.signed) - 1
        return (-high - (self.saturation != "SAT_SYM") if self.signed else 0), high

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Codes int64 of float values of any size, rounded and saturated or wrapped as C++ does."""
        steps, (low, high) = np.asarray(values, np.float64) * 2.0**self.fractional, self.limits
        if self.saturates:  # before it is rounded too, so that int64 holds it
            return np.clip(ROUNDINGS[self.rounding](np.clip(steps, low - 1, high + 1)), low, high).astype(np.int64)
        codes = np.fmod(ROUNDINGS[self.rounding](steps), float(1 << self.width)).astype(np.int64)  # fmod is exact
        return (codes - low) % (1 << self.width) + low

    def values(self, codes: np.ndarray) -> np.ndarray:
        """Values float64 of codes int64."""
        return codes * 2.0**-self.fractional

    def holds(self, low: int, high: int) -> bool:
        """Whether codes ``low`` to ``high`` are within the limits."""
        return self.limits[0] <= low and high <= self.limits[1]

    def __str__(self) -> str:
        kind = "fixed" if self.signed else "ufixed"
        return f"{kind}<{self.width},{self.width - self.fractional},{self.rounding},{self.saturation}>"
