"""What a piece of a kernel reads and writes: variables, streams and memory ports, also through the functions that it calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from clang.cindex import Cursor, CursorKind, TypeKind

from .tree import Function, Program, operator_of, unwrapped

READ, WRITE = "read", "write"
STREAM_METHODS = {
    "read": (READ,),
    "read_nb": (READ,),
    "empty": (READ,),
    "write": (WRITE,),
    "write_nb": (WRITE,),
    "full": (WRITE,),
    "read_request": (READ,),
    "write_request": (WRITE,),
    "write_response": (WRITE,),
}
ASSIGNING = {"=", "+=", "-=", "*=", "/=", "%=", "<<=", ">>=", "&=", "|=", "^=", "++", "--"}
VARIABLES = (CursorKind.VAR_DECL, CursorKind.PARM_DECL, CursorKind.FIELD_DECL)


@dataclass(frozen=True)
class Access:
    """That variable ``name`` (``usr``) is read or written. ``element``: an element of an array, or of what a pointer points to,
    which is called ``array`` where it is a member; ``conditional``: only under a condition; ``method``: of a stream or a port."""

    usr: str
    name: str
    mode: str
    line: int
    element: bool = False
    array: str = ""
    conditional: bool = False
    method: str = ""


class Effects:
    """Accesses of pieces of a program."""

    def __init__(self, program: Program):
        self.program = program
        self._of_parameters: dict[str, list[list[Access]]] = {}

    def of_parameters(self, function: Function) -> list[list[Access]]:
        """What a function does with each of its parameters."""
        usr = function.cursor.get_usr()
        if usr not in self._of_parameters:
            self._of_parameters[usr] = [[] for _ in function.parameters]  # a recursion sees nothing
            found: dict[str, list[Access]] = {}
            for access in self.of(function.body):
                found.setdefault(access.usr, []).append(access)
            self._of_parameters[usr] = [found.get(each.get_usr(), []) for each in function.parameters]
        return self._of_parameters[usr]

    def of(self, cursor: Cursor, conditional: bool = False) -> Iterator[Access]:
        """All accesses of a statement or an expression, in the order of the text."""
        kind = cursor.kind
        children = list(cursor.get_children())
        if kind == CursorKind.IF_STMT or kind == CursorKind.CONDITIONAL_OPERATOR:
            yield from self.of(children[0], conditional)
            for branch in children[1:]:
                yield from self.of(branch, True)
        elif kind == CursorKind.COMPOUND_STMT:
            for child in children:
                yield from self.of(child, conditional)
                conditional = conditional or _skips(child)
        elif kind == CursorKind.CALL_EXPR and operator_of(cursor) not in ASSIGNING:
            yield from self._of_call(cursor, conditional)
        elif operator_of(cursor) in ASSIGNING and kind in (
            CursorKind.BINARY_OPERATOR,
            CursorKind.COMPOUND_ASSIGNMENT_OPERATOR,
            CursorKind.UNARY_OPERATOR,
            CursorKind.CALL_EXPR,
        ):
            yield from self._of_assignment(cursor, conditional)
        elif kind == CursorKind.BINARY_OPERATOR and operator_of(cursor) in ("&&", "||"):
            yield from self.of(children[0], conditional)
            yield from self.of(children[1], True)
        elif kind in (CursorKind.DECL_REF_EXPR, CursorKind.MEMBER_REF_EXPR, CursorKind.ARRAY_SUBSCRIPT_EXPR):
            yield from self._of_place(cursor, READ, conditional)
        else:
            for child in children:
                yield from self.of(child, conditional)

    def _of_assignment(self, cursor: Cursor, conditional: bool) -> Iterator[Access]:
        operands = list(cursor.get_arguments()) if cursor.kind == CursorKind.CALL_EXPR else list(cursor.get_children())
        for operand in operands[1:]:
            yield from self.of(operand, conditional)
        if operator_of(cursor) != "=":
            yield from self._of_place(operands[0], READ, conditional)
        yield from self._of_place(operands[0], WRITE, conditional)

    def _of_place(self, cursor: Cursor, mode: str, conditional: bool, method: str = "") -> Iterator[Access]:
        """An access to what an expression names, and the reads of its indices."""
        element, array = False, ""
        cursor = unwrapped(cursor)
        while cursor.kind in (CursorKind.MEMBER_REF_EXPR, CursorKind.ARRAY_SUBSCRIPT_EXPR, CursorKind.UNARY_OPERATOR):
            children = list(cursor.get_children())
            if not children:
                break
            if cursor.kind == CursorKind.ARRAY_SUBSCRIPT_EXPR:
                element, array = True, unwrapped(children[0]).spelling or array
                yield from self.of(children[1], conditional)
            elif cursor.kind == CursorKind.MEMBER_REF_EXPR:
                array = array or cursor.spelling
            elif cursor.kind == CursorKind.UNARY_OPERATOR:
                element = element or operator_of(cursor) == "*"
            cursor = unwrapped(children[0])
        target = cursor.referenced if cursor.kind in (CursorKind.DECL_REF_EXPR, CursorKind.MEMBER_REF_EXPR) else None
        if target is not None and target.kind in VARIABLES:
            line = cursor.location.line
            yield Access(target.get_usr(), target.spelling, mode, line, element, array, conditional, method)
        elif target is None and cursor.kind != CursorKind.CXX_THIS_EXPR:
            yield from self.of(cursor, conditional) if cursor.kind == CursorKind.CALL_EXPR else iter(())

    def _of_call(self, cursor: Cursor, conditional: bool) -> Iterator[Access]:
        arguments = list(cursor.get_arguments())
        base = method_base(cursor)
        function = self.program.called(cursor)
        if base is not None:
            if function is None and cursor.spelling in STREAM_METHODS:
                for mode in STREAM_METHODS[cursor.spelling]:
                    yield from self._of_place(base, mode, conditional, cursor.spelling)
            else:
                yield from self._of_place(base, READ, conditional)
                if not (cursor.referenced is not None and cursor.referenced.is_const_method()):
                    yield from self._of_place(base, WRITE, conditional)
        if function is None:
            for argument in arguments or list(cursor.get_children()):
                yield from self.of(argument, conditional)
            return
        for argument, uses in zip(arguments, self.of_parameters(function), strict=False):
            if not is_reference(argument, function, arguments.index(argument)):
                yield from self.of(argument, conditional)
                continue
            places = list(self._of_place(argument, READ, conditional))
            if not places:
                continue
            *indices, place = places
            yield from indices
            for use in uses:
                yield replace(
                    use,
                    usr=place.usr,
                    name=place.name,
                    line=place.line,
                    element=use.element or place.element,
                    array=use.array if use.array != use.name else place.array or place.name,
                    conditional=use.conditional or conditional,
                )


def is_reference(argument: Cursor, function: Function, index: int) -> bool:
    """Whether a parameter is what its caller names, not a copy: a reference, a pointer or an array."""
    if index >= len(function.parameters):
        return False
    kind = function.parameters[index].type.get_canonical().kind
    return kind in (TypeKind.LVALUEREFERENCE, TypeKind.POINTER, TypeKind.INCOMPLETEARRAY, TypeKind.CONSTANTARRAY)


def method_base(call: Cursor) -> Cursor | None:
    """The object of which a call is a method."""
    children = list(call.get_children())
    if not children or children[0].kind != CursorKind.MEMBER_REF_EXPR:
        return None
    inner = list(children[0].get_children())
    return inner[0] if inner else None


def _skips(statement: Cursor) -> bool:
    """Whether a statement may leave the rest of a loop's body out."""
    if statement.kind != CursorKind.IF_STMT:
        return False
    return any(each.kind in (CursorKind.CONTINUE_STMT, CursorKind.BREAK_STMT) for each in statement.walk_preorder())
