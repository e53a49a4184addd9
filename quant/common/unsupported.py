"""The error for models that cannot be quantized."""

from __future__ import annotations


class UnsupportedOperator(ValueError):
    """A model that the integer graph cannot hold; the message says what was found, of operators all of them."""
