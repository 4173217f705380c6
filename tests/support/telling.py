"""What servers may tell of their procedures: as Perl's do, and anything at all; and what of a
program that was made of it is only text.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hypothesis import strategies as st

NASTY = [
    *("", " ", "\n", "\r", "\0", "\u2028", "\u202e", "\x0c", "\t", "\\", '"', "'", '"""', "'''"),
    *('"""\nimport os\n"""', "'\nimport os\n'", "x\nimport os", '\\"""', 'x"', '"x', "\\N{DASH}"),
    *("x = 1", "__import__('os')", "{x}", "%s", "# type: ignore", "-*- coding: rot13 -*-"),
    *(
        "foo-bar",
        "class",
        "None",
        "1st",
        "x y",
        "a|b",
        "||",
        "00x",
        "00",
        "x_1",
        "2a|b",
        "*",
        "**x",
    ),
    *("self", "caller", "rpc", "Fault", "Caller", "Coderef", "Server", "mux", "init_clients"),
    *("int", "str", "list", "dict", "object", "bool", "float", "bytes", "builtins", "rpcasync"),
    *("Client", "AsyncClient", "TypedDict", "Callable", "_given", "_given_values", "itertools"),
    *("fields", "reply", "values", "globals", "__init__", "__x", "__debug__", "_", "call", "close"),
    *(
        "\ufb01nd",
        "\xe9",
        "\u0441",
        "\U00010400",
        "\ud800",
        "method",
        "methods",
        "XAnswer",
        "x" * 300,
    ),
    *("integer32", "integer8:pos", "sub", "any", "utf8string", "boolean", "binaryary", "int:"),
]
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=8))
_scalars = st.one_of(texts, st.none(), st.integers(), st.floats(), st.binary(max_size=4))
anything = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(texts, st.binary(max_size=3)), inner)
    ),
    max_leaves=12,
)
_tables = st.dictionaries(texts, anything, max_size=4)

# Whatever a server may say of a procedure.
about = st.fixed_dictionaries(
    {},
    optional={
        "in": st.one_of(_tables, anything),
        "out": st.one_of(_tables, anything),
        "doc": st.one_of(texts, anything),
        "order": st.one_of(st.dictionaries(texts, st.lists(texts, max_size=3)), anything),
        "defaults": st.one_of(st.dictionaries(texts, st.one_of(texts, anything)), anything),
        "positional": st.one_of(st.lists(texts, max_size=4), anything),
    },
)
servers = st.dictionaries(texts, about, max_size=5)

# What Perl's servers say, where their programs give definitions.
_NAMES = ["n1", "count", "name", "flag", "x_y", "size", "class", "foo-bar", "self", "caller"]
_KINDS = [
    *("integer8", "uinteger64", "integer32", "integer32:pos", "float32", "float64", "boolean"),
    *("utf8string", "latin1string", "binary", "sub", "any", "date"),
]
_perl_types = st.recursive(
    st.sampled_from(_KINDS),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2),
        st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3),
    ),
    max_leaves=6,
)


@st.composite
def _perl_table(draw: st.DrawFn, is_in: bool) -> dict[str, object]:
    names = draw(st.lists(st.sampled_from(_NAMES), max_size=5, unique=True))
    is_numbered = is_in and draw(st.booleans())
    return {
        f"{number:02}{name}" if is_numbered else name: draw(_perl_types)
        for number, name in enumerate(names)
    }


perl_about = st.fixed_dictionaries({"in": _perl_table(True), "out": _perl_table(False)})
perl_servers = st.dictionaries(st.sampled_from([*_NAMES, "1st", "x y"]), perl_about, max_size=4)


def inert(node: ast.AST) -> bool:
    """True for a literal: texts, numbers, None, and dicts and lists of them."""
    try:
        ast.literal_eval(ast.unparse(node))
    except (ValueError, SyntaxError):
        return False
    return True


def names_in(*nodes: ast.AST) -> Iterator[str]:
    """Yield all that is named in some nodes: `a`, `.b` of anything, and `builtins.c` as a whole."""
    for node in nodes:
        for each in ast.walk(node):
            if isinstance(each, ast.Name):
                yield each.id
            elif isinstance(each, ast.Attribute):
                text = ast.unparse(each)
                yield text if text.startswith("builtins.") else f".{each.attr}"


def is_annotation(node: ast.AST | None, names: set[str]) -> bool:
    """True if a node is an annotation that is made of some names, dotted ones too, and no more."""
    match node:
        case ast.Name() | ast.Attribute():
            return ast.unparse(node) in names
        case ast.Constant():
            return node.value is None or node.value is ...
        case ast.Subscript():
            return is_annotation(node.value, names) and is_annotation(node.slice, names)
        case ast.Tuple():
            return all(is_annotation(each, names) for each in node.elts)
        case ast.BinOp(op=ast.BitOr()):
            return is_annotation(node.left, names) and is_annotation(node.right, names)
    return False
