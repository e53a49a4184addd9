"""Reference zero multiplies the codes themselves in every step, and keeps nothing."""

from __future__ import annotations

from types import SimpleNamespace

from ditto_zynq.hls.contract.references import ZERO, Reference


def test_the_codes_themselves_are_multiplied():
    assert ZERO.of(SimpleNamespace(from_zero=lambda: "codes")) == "codes"  # which has no other way


def test_it_is_asked_for_in_every_step_and_keeps_nothing():
    assert {ZERO.asked_at(position) for position in range(4)} == {Reference.ZERO}
    assert not (ZERO.keeps or ZERO.adds_kept or ZERO.in_chains or ZERO.candidates)
    assert (ZERO.flow, ZERO.column) == ("original", "original_cycles")
