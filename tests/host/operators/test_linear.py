"""Operands are kept in two places that take turns, and sums behind them; nothing is counted where counting is off."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.contract.references import Reference
from ditto_zynq.hls.machine.isa import SCALARS
from ditto_zynq.host.operators import LINEAR_OPCODES
from ditto_zynq.host.operators.convolution import ConvolutionExecution
from ditto_zynq.host.operators.linear import KeptOperand, kept_offsets

from tests.host.operators.small import Small


def scalars_of(parity: int, reference: Reference = Reference.ZERO) -> np.void:
    record = np.zeros(1, SCALARS)
    record["parity"], record["reference"] = parity, reference
    return record[0]


def test_two_places_take_turns():
    kept = KeptOperand(lambda parity: np.array([10, 20])[parity])
    assert [(kept.now(scalars_of(p)), kept.before(scalars_of(p))) for p in (0, 1)] == [(10, 20), (20, 10)]
    offsets = np.array([0, 7])
    even, odd = (kept_offsets(100, 64, scalars_of(parity), offsets) for parity in (0, 1))
    assert [each.tolist() for each in even] == [[100, 107], [164, 171]]
    assert [each.tolist() for each in odd] == [each.tolist() for each in even[::-1]]


def test_places_in_state_by_hand():
    """60 codes twice in 64 bytes each, 6 x 5 sums of 4 bytes, and then the next one's 30 codes and 6 x 2 sums."""
    build = GraphBuilder(0)
    first = build.convolution(build.input((2, 3, 10)), 5, kind="code")
    second = build.convolution(first, 2)
    small = Small(build, second)
    places = [
        (form.state_input, form.state_input_span, form.state_accumulators)
        for form in (small.form(first), small.form(second))
    ]
    assert places == [(0, 64, 128), (256, 64, 384)]


def test_references_are_asked_only_where_something_depends_on_them():
    """Sums are those of the codes, whatever the reference, where differences are not really executed."""
    work = SimpleNamespace(from_zero=lambda: "codes", from_previous_step=lambda: "differences")
    scalars = scalars_of(0, Reference.PREVIOUS_STEP)

    def execution(**means: bool):
        found = ConvolutionExecution.__new__(ConvolutionExecution)
        found.means = SimpleNamespace(**means)
        return found

    assert execution(differences=False).sum(scalars, work) == "codes"
    assert execution(differences=True).sum(scalars, work) == "differences"
    assert execution(counting=True).count(scalars, work) == "differences"
    assert execution(counting=False).count(scalars, work) == []


def test_the_linear_unit_has_three_opcodes():
    assert sorted(int(opcode) for opcode in LINEAR_OPCODES) == [1, 2, 3]
