"""The manual of the instruction set, ``hls/isa.md``, made of what defines it: ``python -m ditto_zynq.hls.build.manual``."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import numpy as np

from ..contract.operators import (
    Add,
    AveragePool,
    Convolution,
    GroupNorm,
    LayerNorm,
    MatMul,
    Multiply,
    Node,
    Quantize,
    Softmax,
    Upsample,
    activation,
)
from ..contract.references import KINDS
from ..machine import isa
from ..machine.descriptor_rules import LEGAL_FLAGS, REQUIRED_FLAGS
from ..machine.forms import FORMS, MEANING, Form
from ..machine.isa import Flag, Opcode
from ..machine.scalar_rules import ALWAYS, QUANTIZING, RANGES
from .generate import FOLDER, environment

MANUAL = FOLDER / "isa.md"
COMMAND = "python -m ditto_zynq.hls.build.manual"
OPERATORS: dict[Opcode, tuple[type[Node], ...]] = {
    Opcode.CONVOLUTION: (Convolution,),
    Opcode.SCORES: (MatMul,),
    Opcode.MIX: (MatMul,),
    Opcode.GROUP_NORM: (GroupNorm,),
    Opcode.LAYER_NORM: (LayerNorm,),
    Opcode.ADD: (Add,),
    Opcode.MULTIPLY: (Multiply,),
    Opcode.ACTIVATE: (*activation.OPERATORS, Quantize),
    Opcode.SOFTMAX: (Softmax,),
    Opcode.AVERAGE_POOL: (AveragePool,),
    Opcode.UPSAMPLE: (Upsample,),
}
"""The operators of the contract that each operation computes."""
BITS = {name: 8 * isa.DESCRIPTOR[name].itemsize for name in isa.DESCRIPTOR.names or ()}


def manual() -> str:
    """The text of ``hls/isa.md``."""
    context = {
        "command": COMMAND,
        "references": [
            {"name": number.name, "value": number.value, "meaning": kind.help} for number, kind in KINDS.items()
        ],
        "registers": _registers(),
        "regions": [
            {"name": each.name, "value": each.value, "meaning": isa.REGION_MEANINGS[each]} for each in isa.Region
        ],
        "records": {
            "descriptor": _record(isa.DESCRIPTOR_FIELDS),
            "scalars": _record(isa.SCALAR_FIELDS),
            "counters": _record(isa.COUNTER_FIELDS),
            "defo": _record(isa.DEFO_FIELDS),
        },
        "record_size": isa.COUNTERS.itemsize,
        "start_cycles": isa.START_CYCLES,
        "common": _fields(Form, Opcode.CONVOLUTION),
        "flags": [_flag(flag) for flag in Flag],
        "activations": [
            {"name": each.__name__, "value": number, "meaning": inspect.getdoc(each)}
            for number, each in activation.BY_NUMBER.items()
        ],
        "opcodes": [_opcode(opcode) for opcode in Opcode],
        "always": [_scalar(name, limits) for name, limits in ALWAYS.items()],
    }
    return environment().get_template("isa.md.j2").render(context)


def _registers() -> list[dict[str, Any]]:
    regions = {pointer.name: f"base of {pointer.region.name}, on port {pointer.port}" for pointer in isa.POINTERS}
    meanings, offsets = isa.REGISTER_MEANINGS | regions, {"control": isa.CONTROL} | isa.registers()
    return [{"name": name, "offset": offset, "meaning": meanings[name]} for name, offset in offsets.items()]


def _record(fields: tuple[isa.Field, ...]) -> dict[str, Any]:
    offset, entries = 0, []
    for field in fields:
        size = np.dtype(field.type).itemsize
        entries.append({"name": field.name, "offset": offset, "bits": 8 * size, "meaning": field.meaning})
        offset += size
    return {"size": offset, "fields": entries}


def _flag(flag: Flag) -> dict[str, Any]:
    opcodes = [opcode.name for opcode, flags in LEGAL_FLAGS.items() if flags & flag]
    return {"name": flag.name, "value": flag.value, "meaning": isa.FLAG_MEANINGS[flag], "opcodes": opcodes}


def _names(flags: Flag) -> list[str]:
    return [str(flag.name) for flag in Flag if flags & flag]


def _opcode(opcode: Opcode) -> dict[str, Any]:
    form, legal = FORMS[opcode], LEGAL_FLAGS[opcode]
    of_all = {field.name for field in dataclasses.fields(Form)}
    scalars = [_scalar(name, limits) for name, limits in RANGES[opcode].items()]
    if legal & Flag.QUANTIZE:
        scalars += [_scalar(name, limits) for name, limits in QUANTIZING.items()]
    return {
        "name": opcode.name,
        "value": opcode.value,
        "meaning": _text(form),
        "operators": [
            {"name": each.__name__, "path": _path(each), "meaning": _text(each)} for each in OPERATORS[opcode]
        ],
        "fields": [field for field in _fields(form, opcode) if field["name"] not in of_all],
        "flags": _names(legal),
        "required": _names(REQUIRED_FLAGS.get(opcode, Flag(0))),
        "scalars": scalars,
    }


def _fields(form: type[Form], opcode: Opcode) -> list[dict[str, Any]]:
    stored = form.stored(opcode)
    return [
        {
            "name": field.name,
            "stored": stored[field.name],
            "bits": BITS[stored[field.name]],
            "meaning": field.metadata[MEANING],
        }
        for field in dataclasses.fields(form)
    ]


def _scalar(name: str, limits: tuple[int, int]) -> dict[str, str]:
    [meaning] = [field.meaning for field in isa.SCALAR_FIELDS if field.name == name]
    low, high = limits
    return {"name": name, "low": _number(low), "high": _number(high), "meaning": meaning}


def _number(x: int) -> str:
    """In digits or, where they are many, as a power of two."""
    if abs(x) < 1 << 16:
        return str(int(x))
    return f"-2**{(-x).bit_length() - 1}" if x < 0 else f"2**{x.bit_length()} - 1"


def _text(cls: type) -> str:
    """A docstring in Markdown."""
    text = re.sub(r":\w+:`[.~]*([\w.]+)`", r"`\1`", cls.__doc__ or "").replace("``", "`")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _path(cls: type) -> str:
    return f"contract/operators/{cls.__module__.rsplit('.', 1)[-1]}.py"


if __name__ == "__main__":
    MANUAL.write_text(manual())
