"""How counts and layers are named where people read them."""

from __future__ import annotations

LONGEST_NAME = 52  # characters of a layer's, in tables and figures


def number_of(count: int, noun: str) -> str:
    """A count with its noun: ``1 image``, ``2 images``, ``1,000 images``; of nouns that take an s, or es (``batch``)."""
    ending = "" if count == 1 else "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{count:,} {noun}{ending}"


def shortened(name: str, length: int = LONGEST_NAME) -> str:
    """A layer's name in at most ``length`` characters: beginning and end say most, so the middle goes."""
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[len(name) - (length - 1 - head) :]}"
