"""What others raise becomes one line."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.common.explained import explained


@pytest.mark.parametrize(
    ("error", "why"), [(KeyError("a"), "'a'"), (RuntimeError("two\nlines"), "two lines"), (TypeError(), "TypeError")]
)
def test_an_error_says_what_was_tried_and_what_to_do(error, why):
    line = rf"^the schedule does not run: {why}; take another$"
    with pytest.raises(ValueError, match=line) as found, explained("the schedule does not run", "take another"):
        raise error
    assert found.value.__cause__ is error


def test_an_interrupt_is_not_explained():
    with pytest.raises(KeyboardInterrupt), explained("x", "y"):
        raise KeyboardInterrupt
