"""Forms that Vitis HLS builds well, as rules. UG1399 is its user guide, UG1448 the guide to its messages (both 2023.2).

What passes has not been synthesized: no such compiler was at hand when these rules were written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .dataflow_rules import canonical, one_to_one, own, ported
from .effects import Effects
from .loop_rules import bounded_in_pipelines, flat, forwarded, labelled, undivided
from .memory_rules import unchosen, unconditional
from .tree import Function, Program


@dataclass(frozen=True)
class Finding:
    """That a rule is broken."""

    rule: str
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.text}"


@dataclass(frozen=True)
class Rule:
    """A form. ``source``: where the vendor says so; ``check`` gives lines and texts of what breaks it in a function."""

    name: str
    source: str
    check: Callable[[Function, Effects], Iterator[tuple[int, str]]]


def findings(program: Program, rules: Iterable[Rule] | None = None) -> list[Finding]:
    """All that breaks a rule, in the order of the files."""
    effects = Effects(program)
    found = {
        Finding(rule.name, function.file, line, f"{function.name} {text}")
        for rule in (RULES if rules is None else rules)
        for function in program.functions
        for line, text in rule.check(function, effects)
    }
    return sorted(found, key=lambda each: (each.file, each.line, each.rule, each.text))


BURST = "UG1399, Preconditions and Limitations of Burst Transfer"
RULES = [
    Rule("labelled", "UG1399, pragma HLS loop_tripcount", labelled),
    Rule("bounded in pipelines", "UG1399, Pipelining Loops; UG1448, HLS 200-960", bounded_in_pipelines),
    Rule("flat", "UG1399, Loop Flattening; XFORM 203-542", flat),
    Rule("undivided", "UG1399, Operator Pipelining; latency of sdiv and udiv", undivided),
    Rule("forwarded", "UG1399, pragma HLS dependence; UG1448, HLS 200-880", forwarded),
    Rule("unconditional", BURST, unconditional),
    Rule("unchosen", "UG1399, Pointers: pointer casting and arrays of pointers", unchosen),
    Rule("canonical", "UG1448, HLS 214-114 and 214-169", canonical),
    Rule("one to one", "UG1448, HLS 200-779 and 200-992", one_to_one),
    Rule("ported", f"{BURST}; UG1399, M_AXI Bundles", ported),
    Rule("own", "UG1399, Limitations of Control-Driven Task-Level Parallelism", own),
]
