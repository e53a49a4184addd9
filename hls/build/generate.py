"""Generates what the kernels take from Python: the C++ headers of configuration, descriptors and tables, and the top functions.

Templates (``templates/*.j2``) hold constants and interfaces only; the loops are hand-written in ``kernels/``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import formats, operators, tables
from ..contract.references import KINDS, Reference
from ..machine import isa
from ..machine.boards import find_board
from ..machine.config import HardwareConfig
from ..machine.forms import FORMS, MEANING, Form, kinds
from ..machine.plan import QUEUES

FOLDER = Path(__file__).parents[1]
KERNELS = FOLDER / "kernels"
TEMPLATES = FOLDER / "templates"
C_TYPES = {"u1": "uint8_t", "u2": "uint16_t", "u4": "uint32_t", "i4": "int32_t", "i8": "int64_t", "u8": "uint64_t"}


def kernel_headers() -> list[Path]:
    """The headers that are written by hand, in all folders of :data:`KERNELS`."""
    return sorted(KERNELS.rglob("*.hpp"))


def environment() -> Any:
    """The templates, in which a missing value is an error (a jinja2 Environment)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)


def generate(config: HardwareConfig, folder: Path) -> list[Path]:
    """Write config.hpp, formats.hpp, isa.hpp, tables.hpp, top.cpp and csim.cpp into ``folder``; returns their paths."""
    contexts: dict[str, dict[str, Any]] = {
        "config.hpp": {"config": config, "constants": config_constants(config)},
        "formats.hpp": {"formats": format_constants(), "widths": formats.WEIGHT_WIDTHS},
        "isa.hpp": _isa_context(),
        "tables.hpp": {"constants": table_constants(), "tables": _tables()},
        "top.cpp": {
            "config": config,
            "pointers": [(pointer.name, not pointer.written) for pointer in isa.POINTERS],
            "bundles": [(pointer.name, f"gmem{pointer.port}") for pointer in isa.POINTERS],
            "registers": [(name, hex(offset)) for name, offset in isa.registers().items()],
        },
        "csim.cpp": {
            "region_names": [region.name for region in isa.Region],
            "pointer_regions": [pointer.region.name for pointer in isa.POINTERS],
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    templates = environment()
    paths = []
    for name, context in contexts.items():
        paths.append(folder / name)
        paths[-1].write_text(templates.get_template(f"{name}.j2").render(context))
    return paths


def config_constants(config: HardwareConfig) -> dict[str, int]:
    """The integers of ``Config``: the configuration's own and the bit widths that follow from them."""
    fields = {name: value for name, value in asdict(config).items() if isinstance(value, int)}
    derived = {
        "bus_bytes": config.bus_bytes,
        "vector_width": config.vector_width,
        "dram_bytes_per_kilocycle": config.dram_bytes_per_kilocycle,
        "multiplier_bits": find_board(config.board).multiplier_bits,
        "word_bits": config.word_bits,
        "fill_cycles": config.fill_cycles,
        "uram_copies": config.uram_copies,
        "position_bits": config.positions.bit_length(),
    }
    return fields | derived | {f"queued_{name}": depth for name, depth in QUEUES.items()}


def format_constants() -> dict[str, int]:
    """The number formats, by their names in :mod:`..contract.formats`."""
    return {name: value for name, value in vars(formats).items() if isinstance(value, int)}


def table_constants() -> dict[str, int]:
    """Fixed-point formats, by their names in :mod:`..contract.tables` and :mod:`..contract.operators`."""
    constants = {name: value for name, value in vars(tables).items() if name.endswith("_BITS")}
    norm = {"NORM_MEAN_BITS": operators.norm.MEAN_BITS, "NORM_RECIPROCAL_BITS": operators.norm.RECIPROCAL_BITS}
    norm |= {
        "NORM_SLOPE_BITS": operators.norm.SLOPE_BITS,
        "NORM_LARGEST_SLOPE_BITS": operators.norm.LARGEST_SLOPE.bit_length(),
    }
    norm |= {"SMALL_NORM": operators.norm.SMALL_NORM}
    rows = {name: getattr(operators.softmax, name) for name in ("ROW_RECIPROCAL_BITS", "ROW_BITS", "SHARE_BITS")}
    places = {name: index * tables.DEFICIT_KNOTS for index, name in enumerate(tables.DEFICITS)}  # in DEFICITS
    return constants | {"DEFICIT_KNOTS": tables.DEFICIT_KNOTS} | places | norm | rows


def _tables() -> dict[str, list[int]]:
    thresholds = {"ROUNDING_THRESHOLDS": operators.softmax.rounding_thresholds(16).tolist()}
    found = tables.DEFICITS
    others = {name: each for name, each in vars(tables).items() if isinstance(each, np.ndarray) and name not in found}
    joined = {"DEFICITS": [entry for table in found.values() for entry in table[:-1].tolist()]}
    return {name: table.tolist() for name, table in others.items()} | joined | thresholds


def _isa_context() -> dict[str, Any]:
    records = {}
    for name, dtype, fields in (
        ("descriptor", isa.DESCRIPTOR, isa.DESCRIPTOR_FIELDS),
        ("scalars", isa.SCALARS, isa.SCALAR_FIELDS),
        ("counters", np.dtype(isa.COUNTERS.descr[: len(isa.COUNTER_FIELDS)]), isa.COUNTER_FIELDS),
        ("decision", isa.DEFO, isa.DEFO_FIELDS),
    ):
        assert dtype.fields is not None
        entries = [
            {
                "name": field.name,
                "meaning": field.meaning,
                "type": C_TYPES[field.type.lstrip("<")],
                "bytes": dtype.fields[field.name][0].itemsize,
                "offset": dtype.fields[field.name][1],
            }
            for field in fields
        ]
        records[name] = {"itemsize": dtype.itemsize, "fields": entries}
    return {
        "opcodes": list(isa.Opcode),
        "flags": list(isa.Flag),
        "activations": {each.__name__.upper(): number for number, each in operators.activation.BY_NUMBER.items()},
        "kinds": {_kind_name(kind): [opcode.name for opcode in opcodes] for kind, opcodes in kinds().items()},
        "forms": [_form_context(form) for form in dict.fromkeys(FORMS.values())],
        "references": list(Reference),
        "is_choice": _is_one_of([number for number, kind in KINDS.items() if kind.candidates]),
        "choices": {
            number.name: _is_one_of([each.reference for each in kind.candidates])
            for number, kind in KINDS.items()
            if kind.candidates
        },
        "records": records,
        "counters": isa.COUNTER_NAMES,
        "start_cycles": isa.START_CYCLES,
    }


def _kind_name(kind: type[Form]) -> str:
    """As in ``is_convolution(opcode)``."""
    return "operation" if kind is Form else kind.__name__.lower()


def _form_context(form: type[Form]) -> dict[str, Any]:
    """A form's name, opcodes, and fields: each with the descriptor's field of every opcode."""
    types = {field.name: C_TYPES[field.type.lstrip("<")] for field in isa.DESCRIPTOR_FIELDS}
    entries = []
    for field in dataclasses.fields(form):
        places = {opcode.name: form.stored(opcode)[field.name] for opcode in form.opcodes}
        first, *others = dict.fromkeys(places.values())
        assert all(types[other] == types[first] for other in others), f"{form.__name__}.{field.name} has two types"
        entries.append(
            {
                "name": field.name,
                "type": types[first],
                "meaning": field.metadata[MEANING],
                "places": places if others else first,
            }
        )
    return {
        "name": form.__name__,
        "meaning": " ".join((form.__doc__ or "").split()),
        "opcodes": [opcode.name for opcode in form.opcodes],
        "fields": entries,
    }


def _is_one_of(numbers: list[Reference]) -> str:
    return " || ".join(f"reference == {number.name}" for number in numbers)
