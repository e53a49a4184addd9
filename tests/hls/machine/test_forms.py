"""Forms say the same of a record, a table and a kind of operation, and leave no field of a descriptor without a meaning."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from ditto_zynq.hls.contract.spatial import chains_of
from ditto_zynq.hls.machine.forms import FORMS, Columns, Convolution, Form, Linear, decode, kinds
from ditto_zynq.hls.machine.isa import DESCRIPTOR, Opcode


def random_records(count: int) -> np.ndarray:
    """Records of the ISA with every opcode and any content."""
    random = np.random.default_rng(0)
    records = random.integers(0, 256, (count, DESCRIPTOR.itemsize), np.uint8).reshape(-1).view(DESCRIPTOR)
    records["opcode"] = [list(Opcode)[index % len(Opcode)] for index in range(count)]
    return records


def test_every_opcode_has_a_form_and_every_field_a_meaning():
    assert set(FORMS) == set(Opcode) == set(kinds()[Form])
    used = {place for opcode, form in FORMS.items() for place in form.stored(opcode).values()}
    assert set(DESCRIPTOR.names) == used
    for opcode, form in FORMS.items():
        places = list(form.stored(opcode).values())
        assert len(places) == len(set(places)), f"{opcode.name} has two names for a field"


@pytest.mark.parametrize("opcode", Opcode)
def test_a_form_is_what_was_encoded(opcode):
    names = FORMS[opcode].stored(opcode)
    form = FORMS[opcode](**{name: index for index, name in enumerate(names)} | {"opcode": int(opcode)})
    assert decode(form.encode()[()]) == form


def test_columns_are_the_forms_of_all_records():
    records = random_records(4 * len(Opcode))
    for form in set(FORMS.values()):
        columns = Columns(form, records)
        decoded = [asdict(decode(record)) if here else {} for record, here in zip(records, columns.here, strict=True)]
        assert [int(record["opcode"]) in form.opcodes for record in records] == columns.here.tolist()
        for name in form.stored(form.opcodes[0]):
            assert columns[name].tolist() == [numbers.get(name, 0) for numbers in decoded]


def test_kinds_are_the_classes_of_forms():
    assert set(kinds()[Linear]) == {Opcode.CONVOLUTION, Opcode.SCORES, Opcode.MIX}
    for kind, opcodes in kinds().items():
        assert [issubclass(FORMS[opcode], kind) for opcode in Opcode] == [opcode in opcodes for opcode in Opcode]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((1, 1), (1, 1), 0), ((3, 3), (2, 2), 1), ((1, 2), (1, 3), 0)]
)
def test_chains_are_those_of_the_contract(kernel, stride, padding):
    columns = (9 + 2 * padding - kernel[1]) // stride[1] + 1
    expected = chains_of(kernel, stride, (padding,) * 4, 9, columns)
    form = Convolution(
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        stride_height=stride[0],
        stride_width=stride[1],
        pad_top=padding,
        pad_bottom=padding,
        pad_left=padding,
        pad_right=padding,
        lead_columns=expected.lead_columns,
        extra_columns=expected.extra_columns,
    )
    assert form.chains == expected
