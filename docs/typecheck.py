"""Have mypy and pyright check the examples, and every snippet of Python in the documents.

    python docs/typecheck.py [page.md or example.py ...]

What they find is told with the page and its line, as `docs/howto/udp.md:41: error: ...`. For that
each page becomes a module with its code where it stands on the page, and nothing elsewhere. The
sessions of a page, ```pycon, are one program, as they are for doctest; each block of ```python is
one by itself, and one of ```py, a fragment, is given our names.

Snippets are for readers, so functions need no annotations. What is wrong on purpose is allowed: a
statement that is shown with its traceback, and a block with this line above it:

    <!-- wrong on purpose -->
"""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "typecheck"  # always the same, for the sake of mypy's cache
MARK = "<!-- wrong on purpose -->"
OURS = "from eventmux import *; from rpcasync import *"
RPC = "rpc: Server"  # what a fragment may take for granted

_BLOCK = re.compile(r"^```(python|pycon|py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MYPY = [
    *("--strict", "--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls"),
    *("--check-untyped-defs", "--disable-error-code=var-annotated", "--allow-redefinition"),
    *("--disable-error-code=import-untyped", "--allow-subclassing-any"),  # of other libraries
    *("--python-version=3.10", "--output=json", "--cache-dir=.mypy_cache", "--config-file="),
]
_PYRIGHT = {
    "include": ["."],
    "extraPaths": [str(ROOT)],
    "pythonVersion": "3.10",
    "typeCheckingMode": "standard",
    "reportPossiblyUnboundVariable": "none",  # whoever reads it sees that it is
    "reportRedeclaration": "none",  # a session may say a thing twice
    "reportUnusedExpression": "none",  # it shows what comes of them
}


@dataclass
class Module:
    """The code of one page, or of one block of it, on the lines that it has there."""

    path: str
    lines: list[str]
    allowed: set[int] = field(default_factory=set)  # lines where errors are no matter
    marked: list[set[int]] = field(default_factory=list)  # blocks that have to have one

    def put(self, line: int, source: str) -> None:
        """Put a source at a line, the first being 1."""
        for number, text in enumerate(source.rstrip("\n").split("\n"), line):
            self.lines[number - 1] = text

    @property
    def source(self) -> str:
        """What the type checkers read."""
        return "\n".join(self.lines) + "\n"


@dataclass(frozen=True, order=True)
class Problem:
    """What a type checker has found, or this program."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        """Return it as editors and people read it."""
        return f"{self.path}:{self.line}: {self.text}"


def modules_of(path: str, text: str, examples: Iterable[str] = ()) -> Iterator[Module]:
    """Yield what is to be checked of a page; its blocks that are example files are not."""
    empty = [""] * (text.count("\n") + 1)
    session = Module(path, [*empty])
    for match in _BLOCK.finditer(text):
        language, code = match.groups()
        first = text.count("\n", 0, match.start(2)) + 1
        module = session if language == "pycon" else Module(path, [*empty])
        if language == "pycon":
            for example in doctest.DocTestParser().get_examples(code):
                module.put(first + example.lineno, example.source)
                if example.exc_msg is not None:
                    length = example.source.count("\n")
                    module.allowed.update(
                        range(first + example.lineno, first + example.lineno + length)
                    )
        elif code in examples:
            continue
        else:
            module.put(first, code)
            if language == "py":
                module.put(first - 1, OURS if "rpc =" in code else f"{OURS}; {RPC}")
        if text[: match.start()].rstrip("\n").endswith(MARK):
            module.marked.append({*range(first, first + code.count("\n"))})
        if module is not session:
            yield module
    if any(session.lines):
        yield session


def problems_in(modules: list[Module], work: Path) -> list[Problem]:
    """Have the modules checked, in a folder for that."""
    work.mkdir(parents=True, exist_ok=True)
    for old in work.glob("*.py"):
        old.unlink()
    by_file = {}
    for number, module in enumerate(modules):
        stem = re.sub(r"\W", "_", module.path.removesuffix(".py").removeprefix("examples/"))
        file = work / f"{stem}.py"
        if file in by_file:
            file = work / f"{stem}_{number}.py"
        file.write_text(module.source)
        by_file[file] = module
    (work / "pyrightconfig.json").write_text(json.dumps(_PYRIGHT))
    with ThreadPoolExecutor() as pool:
        found = [*pool.map(lambda check: [*check(work)], (_mypy, _pyright))]
    problems = set()
    hit = set()  # places, allowed or not
    for file, line, text in [*found[0], *found[1]]:
        known = by_file.get(work / file)
        if known is None:  # it is in the packages
            problems.add(Problem(str(file), line, text))
            continue
        hit.add((known.path, line))
        if line not in known.allowed.union(*known.marked):
            problems.add(Problem(known.path, line, text))
    for module in modules:
        for lines in module.marked:
            if not any((module.path, line) in hit for line in lines):
                problems.add(Problem(module.path, min(lines), f"nothing is wrong below {MARK}"))
    return sorted(_first_of_each(problems))


def _first_of_each(problems: set[Problem]) -> Iterator[Problem]:
    """Yield one of those that a checker has with the same line: a union has many members."""
    for _, same in groupby(sorted(problems), lambda each: (each.path, each.line)):
        known = set()
        for problem in same:
            kind = problem.text.rpartition("[")[2]
            if kind not in known:
                known.add(kind)
                yield problem


_Finding = tuple[str, int, str]  # file, line, text


def _mypy(work: Path) -> Iterator[_Finding]:
    files = sorted(path.name for path in work.glob("*.py"))
    for line in _run("mypy", *_MYPY, *files, cwd=work).split("\n"):
        if not line.strip():
            continue
        each = json.loads(line)
        if each["severity"] != "error":
            continue
        text = f"error: {each['message']}  [mypy: {each['code']}]"
        yield each["file"], each["line"], text


def _pyright(work: Path) -> Iterator[_Finding]:
    output = _run("pyright", "--outputjson", "--pythonpath", sys.executable, cwd=work)
    for each in json.loads(output)["generalDiagnostics"]:
        message = " ".join(each["message"].split())
        text = f"{each['severity']}: {message}  [pyright: {each.get('rule', 'syntax')}]"
        yield each["file"], each["range"]["start"]["line"] + 1, text


def _run(module: str, *arguments: str, cwd: Path) -> str:
    """Return what a type checker prints; exit status 1 is that it has found something."""
    environment = {"MYPYPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode > 1 or not result.stdout:
        raise RuntimeError(f"{module} fails: {result.stdout}{result.stderr}")
    return result.stdout


def modules_of_all(paths: list[Path]) -> Iterator[Module]:
    """Yield the modules of some pages and examples."""
    examples = {path.read_text() for path in (ROOT / "examples").glob("*.py")}
    for path in paths:
        text = path.read_text()
        name = str(path.relative_to(ROOT))
        if path.suffix == ".md":
            yield from modules_of(name, text, examples)
        else:
            yield Module(name, text.split("\n"))


def main(arguments: list[str]) -> int:
    """Check what is named, or everything; return the exit status."""
    paths = [Path(argument).resolve() for argument in arguments] or [
        *sorted((ROOT / "examples").glob("*.py")),
        *sorted((ROOT / "examples" / "migration").glob("*.py")),
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    modules = [*modules_of_all(paths)]
    problems = problems_in(modules, WORK) if modules else []
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    if not problems:
        sys.stdout.write(f"Types: no problems in {len(modules)} programs and sessions\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
