"""The kernels keep the forms that Vitis HLS builds well; every rule finds a kernel that breaks it.

That a kernel passes does not mean that it has been synthesized: see rules.py.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from ditto_zynq.hls.build.generate import KERNELS, generate, kernel_headers
from ditto_zynq.hls.machine.config import default_config

from .__main__ import main
from .rules import RULES, findings
from .tree import Pragma, bind, parse

HEAD = """#include <cstdint>
#include <hls_stream.h>
struct word { uint8_t bytes[16]; };
typedef hls::stream<word> words;
"""
BROKEN = {  # rule: a kernel, the line that breaks it, and the same as it should be
    "labelled": (
        "void f(int n, int& y) {\n  for (int i = 0; i < n; ++i) y += i;\n}\n",
        2,
        "void f(int n, int& y) {\nsum:\n  for (int i = 0; i < n; ++i) {\n"
        "#pragma HLS LOOP_TRIPCOUNT max = 9\n    y += i;\n  }\n}\n",
    ),
    "bounded in pipelines": (
        "void f(int n, int x[64], int& y) {\nrows:\n  for (int i = 0; i < 8; ++i) {\n#pragma HLS PIPELINE II = 1\n"
        "    for (int k = 0; k < n; ++k) y += x[8 * i + k];\n  }\n}\n",
        3,
        "void f(int n, int x[64], int& y) {\nrows:\n  for (int i = 0; i < 8; ++i) {\n#pragma HLS PIPELINE II = 1\n"
        "    for (int k = 0; k < 8; ++k) {\n#pragma HLS UNROLL\n      if (k < n) y += x[8 * i + k];\n    }\n  }\n}\n",
    ),
    "flat": (
        "void f(int n, int m, words& in, words& out) {\nrows:\n  for (int i = 0; i < n; ++i) {\n"
        "#pragma HLS LOOP_TRIPCOUNT max = 9\n  cells:\n    for (int k = 0; k < m; ++k) {\n#pragma HLS PIPELINE II = 1\n"
        "#pragma HLS LOOP_TRIPCOUNT min = 1 max = 9\n      out.write(in.read());\n    }\n  }\n}\n",
        6,
        "void f(int n, words& in, words& out) {\nrows:\n  for (int i = 0; i < n; ++i) {\n"
        "#pragma HLS LOOP_TRIPCOUNT max = 9\n  cells:\n    for (int k = 0; k < 4; ++k) {\n#pragma HLS PIPELINE II = 1\n"
        "      out.write(in.read());\n    }\n  }\n}\n",
    ),
    "undivided": (
        "void f(int n, int m, int& y) {\n  y = n % m;\n}\n",
        2,
        "static const int M = 12;\ninline int part(int a, int b) { return a / b; }\n"
        "void f(int n, int& y) {\n  y = n % M + part(n, M);\n}\n",
    ),
    "forwarded": (
        "void f(hls::stream<int>& in, int sums[64]) {\nall:\n  for (int i = 0; i < 99; ++i) {\n#pragma HLS PIPELINE II = 1\n"
        "    const int at = in.read();\n    sums[at] = sums[at] + 1;\n  }\n}\n",
        3,
        "void f(hls::stream<int>& in, int sums[64]) {\nall:\n  for (int i = 0; i < 99; ++i) {\n#pragma HLS PIPELINE II = 1\n"
        "#pragma HLS DEPENDENCE variable = sums inter false\n"
        "    const int at = in.read();\n    sums[at] = sums[at] + 1;\n  }\n}\n",
    ),
    "unconditional": (
        "void f(const word* memory, int n, words& out) {\nbeats:\n  for (int i = 0; i < 99; ++i) {\n#pragma HLS PIPELINE II = 1\n"
        "    if (i < n) out.write(memory[i]);\n  }\n}\n",
        5,
        "void f(const word* memory, int n, words& out) {\nbeats:\n  for (int i = 0; i < n; ++i) {\n#pragma HLS PIPELINE II = 1\n"
        "#pragma HLS LOOP_TRIPCOUNT max = 99\n    out.write(memory[i]);\n  }\n}\n",
    ),
    "unchosen": (
        "void g(const word* memory, words& out) { out.write(memory[0]); }\n"
        "void f(const word* one, const word* other, bool which, words& out) {\n  g(which ? one : other, out);\n}\n",
        3,
        "void g(const word* memory, words& out) { out.write(memory[0]); }\n"
        "void f(const word* one, const word* other, bool which, words& out) {\n"
        "  if (which) g(one, out);\n  else g(other, out);\n}\n",
    ),
    "canonical": (
        "void g(words& out, int& n) { out.write(word()); ++n; }\nvoid h(words& in) { in.read(); }\n"
        "void f(int& total) {\n#pragma HLS DATAFLOW\n  words channel;\n  int n = 0;\n  g(channel, n);\n"
        "  h(channel);\n  total += 1;\n}\n",
        6,
        "void g(words& out) { out.write(word()); }\nvoid h(words& in) { in.read(); }\n"
        "void f() {\n#pragma HLS DATAFLOW\n  words channel;\n  g(channel);\n  h(channel);\n}\n",
    ),
    "one to one": (
        "void g(int out[8]) { out[0] = 1; }\nvoid h(const int in[8], words& out) { if (in[0]) out.write(word()); }\n"
        "void f(words& out, words& more) {\n#pragma HLS DATAFLOW\n  int channel[8];\n  g(channel);\n  h(channel, out);\n"
        "  h(channel, more);\n}\n",
        8,
        "void g(int out[8], int more[8]) { out[0] = more[0] = 1; }\n"
        "void h(const int in[8], words& out) { if (in[0]) out.write(word()); }\n"
        "void f(words& out, words& more) {\n#pragma HLS DATAFLOW\n  int channel[8], another[8];\n  g(channel, another);\n"
        "  h(channel, out);\n  h(another, more);\n}\n",
    ),
    "ported": (
        "void g(const word* memory, words& out) { out.write(memory[0]); }\n"
        "void inner(const word* a, const word* b, words& one, words& two) {\n#pragma HLS DATAFLOW\n"
        "  g(a, one);\n  g(b, two);\n}\n"
        "void f(const word* left, const word* right, words& one, words& two) {\n"
        "#pragma HLS INTERFACE m_axi port = left bundle = gmem0\n#pragma HLS INTERFACE m_axi port = right bundle = gmem0\n"
        "  inner(left, right, one, two);\n}\n",
        2,
        "void g(const word* memory, words& out) { out.write(memory[0]); }\n"
        "void inner(const word* a, const word* b, words& one, words& two) {\n#pragma HLS DATAFLOW\n"
        "  g(a, one);\n  g(b, two);\n}\n"
        "void f(const word* left, const word* right, words& one, words& two) {\n"
        "#pragma HLS INTERFACE m_axi port = left bundle = gmem0\n#pragma HLS INTERFACE m_axi port = right bundle = gmem1\n"
        "  inner(left, right, one, two);\n}\n",
    ),
    "own": (
        "void g(int lane, const int lists[4][8], words& out) { if (lists[lane][0]) out.write(word()); }\n"
        "void f(const int lists[4][8], words out[4]) {\n#pragma HLS DATAFLOW\nlanes:\n  for (int lane = 0; lane < 4; ++lane) {\n"
        "#pragma HLS UNROLL\n    g(lane, lists, out[lane]);\n  }\n}\n",
        7,
        "void g(const int list[8], words& out) { if (list[0]) out.write(word()); }\n"
        "void f(const int lists[4][8], words out[4]) {\n#pragma HLS DATAFLOW\nlanes:\n  for (int lane = 0; lane < 4; ++lane) {\n"
        "#pragma HLS UNROLL\n    g(lists[lane], out[lane]);\n  }\n}\n",
    ),
}
OF_HEAD = HEAD.count("\n")


def kernel(folder: Path, text: str) -> Path:
    path = folder / "kernel.cpp"
    path.write_text(HEAD + text)
    return path


def test_every_rule_has_a_source_and_a_kernel_that_breaks_it():
    assert [rule.name for rule in RULES] == list(BROKEN)
    assert all(rule.source.startswith("UG1") and rule.check.__doc__ for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_kernel_that_breaks_a_rule(rule, tmp_path, capsys):
    broken, line, mended = BROKEN[rule.name]
    path = kernel(tmp_path, broken)
    found = findings(parse(path), [rule])
    assert [each.line - OF_HEAD for each in found][:1] == [line], found
    assert main([str(path)]) == 1
    assert any(
        text.startswith(f"{path}:{line + OF_HEAD}: {rule.name}: ") for text in capsys.readouterr().out.splitlines()
    )
    assert findings(parse(kernel(tmp_path, mended))) == [], "as it should be it breaks no rule"


def test_what_is_no_kernel(tmp_path):
    with pytest.raises(ValueError, match=r"kernel\.cpp.*error: "):
        parse(kernel(tmp_path, "void f( {"))


def test_pragmas():
    found = Pragma.parse(3, "ARRAY_PARTITION variable = lists.entries complete dim = 2")
    assert found.name == "ARRAY_PARTITION"
    assert found.options == {"variable": "lists.entries", "complete": "", "dim": "2"}
    assert Pragma.parse(1, "PIPELINE II=1").options == {"ii": "1"}
    assert Pragma.parse(1, "LOOP_TRIPCOUNT min = 1 max = C::a / C::b").options == {"min": "1", "max": "C::a / C::b"}
    found = Pragma.parse(1, "DEPENDENCE variable = sums inter RAW distance = 5 true").options
    assert found == {"variable": "sums", "inter": "", "raw": "", "distance": "5", "true": ""}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    generate(default_config("zcu104"), folder)
    for header in kernel_headers():
        copy = folder / header.relative_to(KERNELS)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(header.read_text())
    bind(folder)
    text = (folder / "top.cpp").read_text().replace("<Hardware>", "")
    (folder / "kernels.cpp").write_text(
        f'#include "config.hpp"\nnamespace ditto {{ typedef Config<BitTypes> C; }}\n{text}'
    )
    return parse(folder / "kernels.cpp")


def test_the_kernels_are_read_whole(program):
    names = {function.name for function in program.functions}
    assert {"ditto_top", "Controller::run", "Compute::multiply", "Softmax::rows", "Memory::read"} <= names
    loops = [loop for function in program.functions for loop in function.all_loops()]
    assert sum(loop.has("PIPELINE") for loop in loops) > 30 and sum(loop.has("DATAFLOW") for loop in loops) >= 2


def test_the_kernels_keep_the_rules(program):
    """What is still to be mended is counted; nothing new may come."""
    found = Counter((each.rule, Path(each.file).name) for each in findings(program))
    assert found == TO_MEND, "\n".join(str(each) for each in findings(program))


TO_MEND: Counter[tuple[str, str]] = Counter(
    {
        ("bounded in pipelines", "norm.hpp"): 2,
        ("flat", "line.hpp"): 1,
        ("flat", "norm.hpp"): 3,
        ("flat", "operand.hpp"): 3,
        ("flat", "pool.hpp"): 2,
        ("flat", "result.hpp"): 1,
        ("flat", "upsample.hpp"): 1,
        ("flat", "weights.hpp"): 1,
        ("forwarded", "memory.hpp"): 1,
        ("forwarded", "norm.hpp"): 1,
        ("forwarded", "result.hpp"): 1,
        ("forwarded", "upsample.hpp"): 1,
        ("labelled", "norm.hpp"): 3,
        ("ported", "kernels.cpp"): 5,
        ("unconditional", "memory.hpp"): 2,
        ("undivided", "attention.hpp"): 4,
        ("undivided", "legal.hpp"): 1,
        ("undivided", "norm.hpp"): 2,
        ("undivided", "operand.hpp"): 3,
        ("undivided", "pool.hpp"): 3,
        ("undivided", "product.hpp"): 5,
        ("undivided", "result.hpp"): 1,
        ("undivided", "steps.hpp"): 2,
        ("undivided", "unit.hpp"): 3,
        ("undivided", "upsample.hpp"): 3,
        ("undivided", "weights.hpp"): 2,
    }
)
