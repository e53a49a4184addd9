"""Rules of memory ports."""

from __future__ import annotations

import re
from collections.abc import Iterator

from clang.cindex import CursorKind, TypeKind

from .effects import Effects
from .tree import Function

MEMORY = re.compile(r"\b(word \*|Port\b)")  # a parameter on a memory port


def unconditional(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """Bursts are inferred from accesses that happen in every round, all of them reads or all writes; requests of a manual burst
    and its data are in loops of their own."""
    ports = {each.get_usr() for each in function.parameters if MEMORY.search(each.type.spelling)}
    for loop in function.all_loops():
        if loop.has("PIPELINE"):
            found = [each for each in effects.of(loop.body) if each.usr in ports and (each.element or each.method)]
            for access in found:
                if access.conditional:
                    yield access.line, f"has a conditional {access.mode} of {access.name} in a pipelined loop"
            for usr in sorted({each.usr for each in found}):
                kinds = {(each.mode, "request" in each.method) for each in found if each.usr == usr}
                if len(kinds) > 1:
                    yield (
                        loop.line,
                        f"mixes accesses to {next(each.name for each in found if each.usr == usr)} in a pipelined loop",
                    )


def unchosen(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """A pointer to memory is an argument, never chosen between two when the kernel runs."""
    for cursor in function.body.walk_preorder():
        if cursor.kind == CursorKind.CONDITIONAL_OPERATOR and cursor.type.get_canonical().kind == TypeKind.POINTER:
            yield cursor.location.line, "chooses between pointers"
