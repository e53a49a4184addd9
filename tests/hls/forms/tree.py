"""Kernels as a tree: functions, loops and the pragmas in them, as libclang parses the C++.

Every template of the kernels has one parameter, the configuration. It is bound in the text, so that clang knows all types.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from clang.cindex import Cursor, CursorKind, Index, TranslationUnit
from ditto_zynq.hls.build.csim import vendor_headers

LOOPS = (CursorKind.FOR_STMT, CursorKind.WHILE_STMT, CursorKind.DO_STMT)
FUNCTIONS = (
    CursorKind.CXX_METHOD,
    CursorKind.FUNCTION_DECL,
    CursorKind.FUNCTION_TEMPLATE,
    CursorKind.CONSTRUCTOR,
)
PRAGMA = re.compile(r"^\s*#pragma HLS (.*?)\s*(?://.*)?$")


@dataclass(frozen=True)
class Pragma:
    """A line ``#pragma HLS`` NAME WORDS. ``options``: those words that have values, and the others with an empty one."""

    line: int
    name: str
    options: dict[str, str]

    @staticmethod
    def parse(line: int, text: str) -> Pragma:
        name, _, rest = text.partition(" ")
        options: dict[str, str] = {}
        word = ""
        for part in re.sub(r"\s*=\s*", "= ", rest).split():
            if part.endswith("="):
                word = part[:-1].lower()
                options[word] = ""
            elif word and (not options[word] or not re.fullmatch(r"\w+", part)):
                options[word] = f"{options[word]} {part}".strip()
            elif word and not re.search(r"\w$", options[word]):
                options[word] += f" {part}"
            else:
                options[part.lower()] = ""
        return Pragma(line, name.upper(), options)


@dataclass
class Loop:
    """A loop, with the pragmas in its body and the loops in it. ``label`` is empty where it has none."""

    cursor: Cursor
    label: str
    function: Function
    parent: Loop | None
    pragmas: list[Pragma] = field(default_factory=list)
    children: list[Loop] = field(default_factory=list)

    @property
    def line(self) -> int:
        return int(self.cursor.location.line)

    @property
    def body(self) -> Cursor:
        return list(self.cursor.get_children())[0 if self.cursor.kind == CursorKind.DO_STMT else -1]

    def has(self, name: str) -> bool:
        return any(pragma.name == name for pragma in self.pragmas)

    @cached_property
    def constant(self) -> bool:
        """Whether the loop runs a number of times that is known when it is compiled."""
        if self.cursor.kind != CursorKind.FOR_STMT:
            return False
        parts = list(self.cursor.get_children())
        start = [each for each in parts[0].walk_preorder() if each.kind == CursorKind.VAR_DECL]
        condition = [each for each in parts[1:-1] if "bool" in each.type.spelling]
        variables = {each.spelling for each in start}
        return bool(condition) and all(
            is_constant(each, variables)
            for each in [*(child for v in start for child in v.get_children()), condition[0]]
        )


@dataclass
class Function:
    """A function with its body."""

    cursor: Cursor
    pragmas: list[Pragma] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)

    @property
    def name(self) -> str:
        parent = self.cursor.semantic_parent
        of_class = parent.kind in (CursorKind.STRUCT_DECL, CursorKind.CLASS_DECL)
        return f"{parent.spelling}::{self.cursor.spelling}" if of_class else str(self.cursor.spelling)

    @property
    def file(self) -> str:
        return str(self.cursor.location.file.name)

    @property
    def line(self) -> int:
        return int(self.cursor.location.line)

    @property
    def body(self) -> Cursor:
        return list(self.cursor.get_children())[-1]

    @cached_property
    def parameters(self) -> list[Cursor]:
        return [each for each in self.cursor.get_children() if each.kind == CursorKind.PARM_DECL]

    def has(self, name: str) -> bool:
        return any(pragma.name == name for pragma in self.pragmas)

    def all_pragmas(self) -> list[Pragma]:
        return [*self.pragmas, *(pragma for loop in self.all_loops() for pragma in loop.pragmas)]

    def all_loops(self) -> Iterator[Loop]:
        todo = list(self.loops)
        while todo:
            loop = todo.pop(0)
            yield loop
            todo = [*loop.children, *todo]


class Program:
    """All functions of the kernels, by the cursor of their definition."""

    def __init__(self, functions: Sequence[Function]):
        self.functions = list(functions)
        self._by_usr = {function.cursor.get_usr(): function for function in functions}

    def called(self, call: Cursor) -> Function | None:
        """The function of the kernels that a call is of."""
        target = call.referenced
        if target is None:
            return None
        found = self._by_usr.get(target.get_usr())
        if found is None:
            template = getattr(target, "specialized_template", None)
            found = self._by_usr.get(template.get_usr()) if template is not None else None
        return found


# ------------------------------------------------------------------------------------------------- parsing


def bind(folder: Path) -> None:
    """Take the configuration's parameter out of the kernels in ``folder``, line by line where they were."""
    for path in sorted(folder.rglob("*.hpp")):
        if path.name in ("config.hpp", "types.hpp", "ports.hpp"):
            continue
        text = re.sub(r"^( *)template <class C>$", r"\1", path.read_text(), flags=re.MULTILINE)
        text = re.sub(r"\b([A-Za-z]\w*)<C>", r"\1", text)
        path.write_text(text.replace("typename ", "").replace("::template ", "::"))


@lru_cache(maxsize=1)
def _includes() -> tuple[str, ...]:
    own = subprocess.run(["gcc", "-print-file-name=include"], capture_output=True, text=True, check=True).stdout.strip()
    return ("-isystem", str(vendor_headers()), "-isystem", own)


def parse(path: Path) -> Program:
    """The functions of ``path`` and of all that it includes from its folder. ValueError for what is no C++."""
    arguments = ["-x", "c++", "-std=c++14", f"-I{path.parent}", "-Wno-everything", *_includes()]
    unit = Index.create().parse(str(path), args=arguments)
    errors = [str(each) for each in unit.diagnostics if each.severity >= 3]
    if errors:
        raise ValueError(f"{path}: {errors[0]}")
    return Program(list(_functions(unit, path.parent)))


def _functions(unit: TranslationUnit, folder: Path) -> Iterator[Function]:
    pragmas: dict[str, list[Pragma]] = {}
    todo = [unit.cursor]
    while todo:
        cursor = todo.pop(0)
        if cursor.location.file and not str(cursor.location.file.name).startswith(str(folder)):
            continue
        if cursor.kind in FUNCTIONS and cursor.is_definition() and _has_body(cursor):
            file = str(cursor.location.file.name)
            if file not in pragmas:
                pragmas[file] = list(_pragmas(Path(file)))
            yield _function(cursor, pragmas[file])
        elif cursor.kind not in FUNCTIONS:
            todo = [*cursor.get_children(), *todo]


def _has_body(cursor: Cursor) -> bool:
    children = list(cursor.get_children())
    return bool(children) and children[-1].kind == CursorKind.COMPOUND_STMT


def _pragmas(path: Path) -> Iterator[Pragma]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = PRAGMA.match(line)
        if found:
            yield Pragma.parse(number, found.group(1))


def _function(cursor: Cursor, pragmas: Sequence[Pragma]) -> Function:
    result = Function(cursor)
    _collect_loops(result.body, result, None, "")
    extent = result.body.extent
    for pragma in pragmas:
        if extent.start.line <= pragma.line <= extent.end.line:
            inside = [loop for loop in result.all_loops() if _contains(loop.body, pragma.line)]
            (inside[-1] if inside else result).pragmas.append(pragma)
    return result


def _contains(cursor: Cursor, line: int) -> bool:
    return bool(cursor.extent.start.line <= line <= cursor.extent.end.line)


def _collect_loops(cursor: Cursor, function: Function, parent: Loop | None, label: str) -> None:
    for child in cursor.get_children():
        if child.kind == CursorKind.LABEL_STMT:
            _collect_loops(child, function, parent, child.spelling)
        elif child.kind in LOOPS:
            loop = Loop(child, label, function, parent)
            (parent.children if parent else function.loops).append(loop)
            _collect_loops(child, function, loop, "")
        else:
            _collect_loops(child, function, parent, "")


# ------------------------------------------------------------------------------------------------- expressions

TRANSPARENT = (
    CursorKind.UNEXPOSED_EXPR,
    CursorKind.PAREN_EXPR,
    CursorKind.CSTYLE_CAST_EXPR,
    CursorKind.CXX_STATIC_CAST_EXPR,
    CursorKind.CXX_FUNCTIONAL_CAST_EXPR,
)
LITERALS = (
    CursorKind.INTEGER_LITERAL,
    CursorKind.CXX_BOOL_LITERAL_EXPR,
    CursorKind.CHARACTER_LITERAL,
    CursorKind.STRING_LITERAL,
    CursorKind.TYPE_REF,
    CursorKind.NAMESPACE_REF,
    CursorKind.TEMPLATE_REF,
)


def is_constant(cursor: Cursor, but: frozenset[str] | set[str] = frozenset()) -> bool:
    """Whether an expression is known when it is compiled; ``but`` are variables that count as known."""
    if cursor.kind in LITERALS or cursor.spelling in but:
        return True
    if cursor.kind == CursorKind.DECL_REF_EXPR:
        return _is_constant_name(cursor.referenced)
    if cursor.kind in (CursorKind.MEMBER_REF_EXPR, CursorKind.CXX_THIS_EXPR, CursorKind.ARRAY_SUBSCRIPT_EXPR):
        return False
    children = list(cursor.get_children())
    if cursor.kind == CursorKind.CALL_EXPR:
        children = [each for each in children if not _is_function_name(each)]
    return bool(children) and all(is_constant(each, but) for each in children)


def _is_function_name(cursor: Cursor) -> bool:
    while cursor.kind in TRANSPARENT and len(list(cursor.get_children())) == 1:
        cursor = next(iter(cursor.get_children()))
    return (
        cursor.kind == CursorKind.DECL_REF_EXPR
        and cursor.referenced is not None
        and cursor.referenced.kind in FUNCTIONS
    )


def _is_constant_name(target: Cursor | None) -> bool:
    if target is None:
        return False
    if target.kind in (CursorKind.ENUM_CONSTANT_DECL, CursorKind.TEMPLATE_NON_TYPE_PARAMETER):
        return True
    if target.kind != CursorKind.VAR_DECL or not target.type.is_const_qualified():
        return False
    initial = [each for each in target.get_children() if each.kind not in LITERALS[4:]]
    return all(is_constant(each) for each in initial)


def unwrapped(cursor: Cursor) -> Cursor:
    """An expression without the casts and parentheses around it."""
    while cursor.kind in TRANSPARENT:
        children = [each for each in cursor.get_children() if each.kind not in LITERALS[4:]]
        if len(children) != 1:
            return cursor
        cursor = children[0]
    return cursor


def operator_of(cursor: Cursor) -> str:
    """The operator of a binary, unary or assigning expression; empty where it has none."""
    if cursor.kind == CursorKind.CALL_EXPR:
        return cursor.spelling.removeprefix("operator") if cursor.spelling.startswith("operator") else ""
    children = list(cursor.get_children())
    if len(children) == 2:
        after, before = children[0].extent.end.offset, children[1].extent.start.offset
        for token in cursor.get_tokens():
            if after <= token.extent.start.offset < before and not re.match(r"[\w\])]", token.spelling):
                return str(token.spelling)
    elif len(children) == 1:
        tokens = [token.spelling for token in cursor.get_tokens()]
        ends = (tokens[0], tokens[-1]) if tokens else ()
        return str(next((each for each in ends if not re.match(r"[\w\])(]", each)), ""))
    return ""


def statements(body: Cursor) -> Iterator[Cursor]:
    """The statements of a compound one, without their labels."""
    for child in body.get_children():
        yield next(iter(child.get_children())) if child.kind == CursorKind.LABEL_STMT else child


def calls(cursor: Cursor, nested: bool = True) -> Iterator[Cursor]:
    """Calls in a piece of text; not ``nested``: those that are statements, also in unrolled loops."""
    if nested:
        yield from (each for each in cursor.walk_preorder() if each.kind == CursorKind.CALL_EXPR)
        return
    for statement in statements(cursor):
        if statement.kind == CursorKind.FOR_STMT:
            yield from calls(list(statement.get_children())[-1], nested=False)
        elif unwrapped(statement).kind == CursorKind.CALL_EXPR:
            yield unwrapped(statement)
