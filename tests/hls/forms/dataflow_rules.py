"""Rules of dataflow regions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from clang.cindex import Cursor, CursorKind, Type, TypeKind

from .effects import READ, WRITE, Effects, is_reference
from .loop_rules import registers_of
from .tree import Function, Loop, calls, operator_of, statements, unwrapped

STREAM = re.compile(r"\bstream\b")


def canonical(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """A dataflow region has nothing but its channels, without initial values, and calls of processes: no computed arguments."""
    for body, _ in _regions(function):
        yield from _canonical_body(body)
    for loop in function.all_loops():
        if loop.has("DATAFLOW") and not _alone(loop, function):
            yield loop.line, "has a dataflow loop beside other statements"


def _regions(function: Function) -> Iterator[tuple[Cursor, int]]:
    if function.has("DATAFLOW"):
        yield function.body, function.line
    for loop in function.all_loops():
        if loop.has("DATAFLOW"):
            yield loop.body, loop.line


def _canonical_body(body: Cursor) -> Iterator[tuple[int, str]]:
    for statement in statements(body):
        line = statement.location.line
        if statement.kind == CursorKind.DECL_STMT:
            for variable in statement.get_children():
                if variable.kind == CursorKind.VAR_DECL and _is_initialised(variable):
                    yield line, f"gives {variable.spelling} an initial value in a dataflow region"
        elif statement.kind == CursorKind.FOR_STMT:
            yield from _canonical_body(list(statement.get_children())[-1])
        elif unwrapped(statement).kind == CursorKind.CALL_EXPR and not operator_of(unwrapped(statement)):
            call = unwrapped(statement)
            if call.type.kind != TypeKind.VOID:
                yield line, f"calls {call.spelling}, which returns a value, in a dataflow region"
            for argument in call.get_arguments():
                if any(each.kind == CursorKind.CALL_EXPR and not _copies(each) for each in argument.walk_preorder()):
                    yield line, f"computes an argument of {call.spelling} in a dataflow region"
        else:
            yield line, "has a statement beside its processes in a dataflow region"


def _copies(call: Cursor) -> bool:
    return call.referenced is not None and call.referenced.kind == CursorKind.CONSTRUCTOR


def _is_initialised(variable: Cursor) -> bool:
    if STREAM.search(variable.type.get_canonical().spelling):
        return False
    expressions = [each for each in variable.get_children() if each.kind.is_expression()]
    sizes = variable.type.get_array_size()
    literal = [each for each in expressions if each.kind == CursorKind.INIT_LIST_EXPR]
    if literal:
        return True
    if sizes >= 0 or variable.type.get_canonical().kind == TypeKind.CONSTANTARRAY:
        return False
    return any(not (each.kind == CursorKind.CALL_EXPR and not list(each.get_arguments())) for each in expressions)


def _alone(loop: Loop, function: Function) -> bool:
    others = [each for each in statements(function.body) if each.kind != CursorKind.FOR_STMT]
    return (
        loop.parent is None and all(each.kind == CursorKind.DECL_STMT for each in others) and len(function.loops) == 1
    )


def one_to_one(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """A channel has one process that writes it, and after that one that reads it; an argument that is no scalar, one process.
    Parts of an array are channels of their own."""
    registers = registers_of(effects.program)
    for body, _ in _regions(function):
        local = {each.spelling for each in _declared(body)}
        uses: dict[tuple[str, tuple[int, ...]], dict[str, list[int]]] = {}
        lines: list[int] = []
        for index, call in enumerate(calls(body, nested=False)):
            lines.append(call.location.line)
            for place, modes in _passed(call, effects):
                if not _is_scalar(place, registers):
                    for mode in modes:
                        uses.setdefault(_identity(place), {READ: [], WRITE: []})[mode].append(index)
        for (name, _), of_name in uses.items():
            yield from _one_to_one(name, of_name, lines, re.split(r"\W", name)[0] in local)


def _passed(call: Cursor, effects: Effects) -> Iterator[tuple[Cursor, set[str]]]:
    """What a process gets by reference, and whether it reads and writes it."""
    called = effects.program.called(call)
    for index, argument in enumerate(call.get_arguments() if called else ()):
        if called and is_reference(argument, called, index):
            yield unwrapped(argument), {each.mode for each in effects.of_parameters(called)[index]}


def _identity(place: Cursor) -> tuple[str, tuple[int, ...]]:
    """The text of an expression, and where the variables in it are declared: loops may have one of the same name."""
    used = (each.referenced for each in place.walk_preorder() if each.kind == CursorKind.DECL_REF_EXPR)
    text = "".join(token.spelling for token in place.get_tokens())
    return text, tuple(each.location.offset for each in used if each is not None)


def _one_to_one(name: str, uses: dict[str, list[int]], lines: list[int], local: bool) -> Iterator[tuple[int, str]]:
    for mode, processes in uses.items():
        if len(set(processes)) > 1:
            yield lines[sorted(set(processes))[1]], f"has several processes that {mode} {name}"
    if local and uses[READ] and uses[WRITE] and min(uses[READ]) < min(uses[WRITE]):
        yield lines[min(uses[READ])], f"reads {name} before it is written"


def _declared(body: Cursor) -> Iterator[Cursor]:
    for statement in body.get_children():
        if statement.kind == CursorKind.DECL_STMT:
            yield from (each for each in statement.get_children() if each.kind == CursorKind.VAR_DECL)


def _is_scalar(place: Cursor, registers: set[str]) -> bool:
    """Numbers, and structures and registers of numbers, which become several."""
    kind = place.type.get_canonical()
    if STREAM.search(kind.spelling) or kind.kind == TypeKind.POINTER:
        return False
    if kind.kind in (TypeKind.CONSTANTARRAY, TypeKind.INCOMPLETEARRAY):
        return place.spelling in registers and _of_numbers(kind.element_type)
    return _of_numbers(kind)


def _of_numbers(kind: Type) -> bool:
    kind = kind.get_canonical()
    if kind.kind != TypeKind.RECORD:
        return kind.kind != TypeKind.CONSTANTARRAY
    return all(
        _of_numbers(each.type) for each in kind.get_declaration().get_children() if each.kind == CursorKind.FIELD_DECL
    )


def ported(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """A bundle has one process of a dataflow region that reads, and one that writes; seen from the function with the INTERFACE
    pragmas."""
    bundles = {
        pragma.options["port"]: pragma.options["bundle"]
        for pragma in function.pragmas
        if pragma.name == "INTERFACE" and "m_axi" in pragma.options
    }
    if bundles:
        of_ports = {each.get_usr(): bundles[each.spelling] for each in function.parameters if each.spelling in bundles}
        yield from _ported(function, of_ports, effects, set())


def _ported(
    function: Function, bundles: dict[str, str], effects: Effects, seen: set[tuple[str, tuple[tuple[str, str], ...]]]
) -> Iterator[tuple[int, str]]:
    key = (function.cursor.get_usr(), tuple(sorted(bundles.items())))
    if key in seen:
        return
    seen.add(key)
    for body, line in _regions(function):
        users: dict[tuple[str, str], set[int]] = {}
        for index, call in enumerate(calls(body, nested=False)):
            for access in effects.of(call):
                if access.usr in bundles and (access.element or access.method):
                    users.setdefault((bundles[access.usr], access.mode), set()).add(index)
        for (bundle, mode), processes in sorted(users.items()):
            if len(processes) > 1:
                yield (
                    line,
                    f"has {len(processes)} processes that {mode} bundle {bundle} ({function.name} of {function.file})",
                )
    for call in calls(function.body):
        called = effects.program.called(call)
        if called is not None:
            inner = {}
            for index, argument in enumerate(call.get_arguments()):
                target = unwrapped(argument).referenced
                if target is not None and target.get_usr() in bundles and is_reference(argument, called, index):
                    inner[called.parameters[index].get_usr()] = bundles[target.get_usr()]
            if inner:
                yield from _ported(called, inner, effects, seen)


def own(function: Function, effects: Effects) -> Iterator[tuple[int, str]]:
    """A process takes what it uses, and nothing else: no argument without a use, and no whole array beside the number of its own
    part."""
    if function.cursor.kind != CursorKind.CONSTRUCTOR:
        for parameter, uses in zip(function.parameters, effects.of_parameters(function), strict=True):
            if parameter.spelling and not uses:
                yield function.line, f"does not use its argument {parameter.spelling}"
    for body, _ in _regions(function):
        for loop in (each for each in statements(body) if each.kind == CursorKind.FOR_STMT):
            yield from _numbered(loop)


def _numbered(loop: Cursor) -> Iterator[tuple[int, str]]:
    parts = list(loop.get_children())
    numbers = {each.spelling for each in parts[0].walk_preorder() if each.kind == CursorKind.VAR_DECL}
    for call in calls(parts[-1], nested=False):
        if any(unwrapped(argument).spelling in numbers for argument in call.get_arguments()):
            yield call.location.line, f"gives {call.spelling} the number of its part"
    for inner in (each for each in statements(parts[-1]) if each.kind == CursorKind.FOR_STMT):
        yield from _numbered(inner)
