"""Rules of loops: what can be pipelined, and how well."""

from __future__ import annotations

from collections.abc import Iterator

from clang.cindex import Cursor, CursorKind

from .effects import READ, WRITE, Effects
from .tree import Function, Loop, Program, calls, is_constant, operator_of, unwrapped


def labelled(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """Loops that are built as loops have a name in reports, and a number of rounds: known, or stated."""
    for loop in _built(function):
        if not loop.label:
            yield loop.line, "has a loop without a label"
        if not loop.constant and not loop.has("LOOP_TRIPCOUNT"):
            yield loop.line, "has a loop whose bound is not constant and has no LOOP_TRIPCOUNT"


def _built(function: Function) -> Iterator[Loop]:
    """Loops that stay loops: neither unrolled, nor in a pipelined one, which unrolls them."""
    todo = list(function.loops)
    while todo and not function.has("PIPELINE"):
        loop = todo.pop(0)
        if not loop.has("UNROLL"):
            yield loop
            if not loop.has("PIPELINE"):
                todo = [*loop.children, *todo]


def bounded_in_pipelines(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """A pipelined loop unrolls all loops in it, so that these have constant bounds."""
    for loop in function.all_loops():
        if loop.has("PIPELINE"):
            for inner in _inside(loop, effects.program):
                if not inner.constant:
                    yield (
                        loop.line,
                        f"pipelines a loop with one in it ({inner.function.name}, line {inner.line}) of varying bound",
                    )


def _inside(loop: Loop, program: Program) -> Iterator[Loop]:
    for child in loop.children:
        yield child
        yield from _inside_children(child)
    for call in calls(loop.body):
        called = program.called(call)
        if called is not None:
            yield from called.all_loops()


def _inside_children(loop: Loop) -> Iterator[Loop]:
    for child in loop.children:
        yield child
        yield from _inside_children(child)


def flat(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """A pipelined loop in another one is filled anew with each round of that, unless the nest can be flattened: all statements in
    the innermost loop, all bounds but the outermost constant. Or its rounds are many: at least 64, as LOOP_TRIPCOUNT says."""
    for loop in function.all_loops():
        if loop.has("PIPELINE") and loop.parent is not None and not loop.parent.has("DATAFLOW"):
            nest = list(_outwards(loop))
            perfect = all(_only_loop(outer) for outer in nest[1:])
            constant = all(inner.constant for inner in nest[:-1])
            if not (perfect and constant) and _fewest(loop) < 64:
                yield (
                    loop.line,
                    "enters a pipelined loop again and again, of few rounds, in a nest that cannot be flattened",
                )


def _outwards(loop: Loop) -> Iterator[Loop]:
    current: Loop | None = loop
    while current is not None:
        yield current
        current = current.parent


def _only_loop(loop: Loop) -> bool:
    body = loop.body
    children = list(body.get_children()) if body.kind == CursorKind.COMPOUND_STMT else [body]
    return len(children) == 1


def _fewest(loop: Loop) -> int:
    for pragma in loop.pragmas:
        if pragma.name == "LOOP_TRIPCOUNT" and pragma.options.get("min", "").isdigit():
            return int(pragma.options["min"])
    return 0


def undivided(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """A divider takes as many stages as the quotient has bits; divisors that are constant are shifts or multiplications. A helper
    may divide by its parameter where all callers give a constant."""
    parameters = {each.get_usr() for each in function.parameters}
    for line, divisor in _divisors(function):
        target = divisor.referenced if divisor.kind == CursorKind.DECL_REF_EXPR else None
        of_caller = _is_helper(function) and target is not None and target.get_usr() in parameters
        if not is_constant(divisor) and not of_caller:
            yield line, "divides by what is not constant"
    for call in calls(function.body):
        called = effects.program.called(call)
        if called is None or not _is_helper(called):
            continue
        divisors = {each.referenced.get_usr() for _, each in _divisors(called) if each.kind == CursorKind.DECL_REF_EXPR}
        for parameter, argument in zip(called.parameters, call.get_arguments(), strict=False):
            if parameter.get_usr() in divisors and not is_constant(argument):
                yield call.location.line, f"lets {called.name} divide by what is not constant"


def _is_helper(function: Function) -> bool:
    """Whether a function is one expression."""
    return [each.kind for each in function.body.get_children()] == [CursorKind.RETURN_STMT]


def _divisors(function: Function) -> Iterator[tuple[int, Cursor]]:
    kinds = (CursorKind.BINARY_OPERATOR, CursorKind.COMPOUND_ASSIGNMENT_OPERATOR, CursorKind.CALL_EXPR)
    for cursor in function.body.walk_preorder():
        if cursor.kind in kinds and operator_of(cursor) in ("/", "%", "/=", "%="):
            operands = (
                list(cursor.get_arguments()) if cursor.kind == CursorKind.CALL_EXPR else list(cursor.get_children())
            )
            if len(operands) > 1:
                yield cursor.location.line, unwrapped(operands[1])


def forwarded(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """A memory that a pipelined loop reads and writes has its dependence stated; registers have none."""
    stated = {
        pragma.options["variable"].split(".")[-1] for pragma in function.all_pragmas() if pragma.name == "DEPENDENCE"
    }
    registers = registers_of(effects.program)
    for loop in function.all_loops():
        if loop.has("PIPELINE"):
            modes: dict[str, set[str]] = {}
            for access in effects.of(loop.body):
                if access.element and not access.method:
                    modes.setdefault(access.array or access.name, set()).add(access.mode)
            for name, found in sorted(modes.items()):
                if found == {READ, WRITE} and name not in stated | registers and not _is_local(name, loop):
                    yield loop.line, f"reads and writes {name} in a pipelined loop without a stated dependence"


def registers_of(program: Program) -> set[str]:
    """Names of arrays whose elements are registers."""
    return {
        pragma.options["variable"].split(".")[-1]
        for each in program.functions
        for pragma in each.all_pragmas()
        if pragma.name == "ARRAY_PARTITION"
        and {"complete", "variable"} <= set(pragma.options)
        and pragma.options.get("dim", "0") in ("0", "1")
    }


def _is_local(name: str, loop: Loop) -> bool:
    return any(each.kind == CursorKind.VAR_DECL and each.spelling == name for each in loop.body.walk_preorder())
