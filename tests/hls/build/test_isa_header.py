"""The generated isa.hpp decodes descriptors as hls/machine/forms.py does, and knows of which kind opcodes are."""

from __future__ import annotations

import subprocess

import pytest
from ditto_zynq.hls.build.csim import vendor_headers
from ditto_zynq.hls.build.generate import KERNELS, generate
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.hls.machine.forms import FORMS, Form, decode, kinds
from ditto_zynq.hls.machine.isa import DESCRIPTOR, Opcode

from tests.hls.machine.test_forms import random_records

pytestmark = pytest.mark.hls


def run(folder, body: str, given: bytes = b"") -> list[str]:
    """Lines of a program that has ``body`` in its main function, and the records ``given`` to it."""
    generate(HardwareConfig(), folder)
    (folder / "main.cpp").write_text(
        f"""#include "config.hpp"
#include "isa.hpp"
#include <cstdio>
using namespace ditto;
int main() {{
    uint8_t raw[DESCRIPTOR_BYTES];
    (void)raw;
{body}
}}
"""
    )
    includes = [f"-I{path}" for path in (folder, KERNELS, vendor_headers())]
    subprocess.run(["g++", "-std=c++14", "-w", *includes, "main.cpp", "-o", "main"], cwd=folder, check=True)
    return (
        subprocess.run(["./main"], cwd=folder, input=given, stdout=subprocess.PIPE, check=True)
        .stdout.decode()
        .split("\n")[:-1]
    )


def test_forms_are_decoded_as_in_python(tmp_path):
    records = random_records(3 * len(Opcode))
    cases = []
    for opcode, form in FORMS.items():
        shown = " ".join(f'std::printf("{name} %lld ", (long long)form.{name});' for name in form.stored(opcode))
        cases.append(f"case {opcode.name}: {{ const auto form = forms::{form.__name__}::decode(d); {shown} break; }}")
    body = f"""    while (std::fread(raw, 1, sizeof raw, stdin) == sizeof raw) {{
        const Descriptor d = unpack_descriptor<Config<NativeTypes>>(raw);
        switch (d.opcode) {{ {" ".join(cases)} }}
        std::printf("\\n");
    }}"""
    lines = run(tmp_path, body, records.tobytes())
    assert len(lines) == len(records)
    for line, record in zip(lines, records, strict=True):
        words = line.split()
        found = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        assert found == {name: getattr(decode(record), name) for name in found} and len(found) >= len(Form.stored(1))
    assert DESCRIPTOR.itemsize * len(records) == len(records.tobytes())


def test_kinds_of_opcodes(tmp_path):
    names = {("operation" if kind is Form else kind.__name__.lower()): opcodes for kind, opcodes in kinds().items()}
    shown = " ".join(f'std::printf("%d", is_{name}(opcode));' for name in names)
    lines = run(tmp_path, f'    for (int opcode = 0; opcode < 20; ++opcode) {{ {shown} std::printf("\\n"); }}')
    assert lines == ["".join(str(int(opcode in opcodes)) for opcodes in names.values()) for opcode in range(20)]
