"""Write docs/clauses.md: each clause of Section M that concerns Daily Read meters, and the tests that show it or why none must.

    python scripts/clauses.py

A test says its clause in its name, `test_4_4_5b_...` for 4.4.5(b), or by `@pytest.mark.clause("4.4.5(b)(i)")` where the name
says less or something else. The clauses, in a few words, and the reasons are in `clauses.toml` beside this file.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DATA = ROOT / "scripts/clauses.toml"
PAGE = ROOT / "docs/clauses.md"
NAME = re.compile(r"test_m?([1-9]\d?(?:_[1-9]\d?){1,2})([a-e]?)_")
OF_NO_CLAUSE_HERE = ("3.9.1(a)",)  # named by tests of what is left out

HEAD = """# Section M, clause by clause

Which tests show each clause of paragraphs 1, 2.4, 3.9.1(b), 4 and 5, or why it asks nothing of software. `python
scripts/clauses.py` makes this page from the tests, and a test fails where it is not current, or a clause has neither. A heading
is shown by what is under it. What was decided where the text leaves a choice is in [the rules as decided](rules.md).
"""


class Clause(NamedTuple):
    """A clause: what it is about in a few words, and why it asks nothing of software (empty: it is shown by tests)."""

    name: str
    about: str
    why: str


class Test(NamedTuple):
    """A test and the clauses that it says it shows."""

    path: Path
    name: str
    clauses: frozenset[str]


def clauses() -> list[Clause]:
    """The clauses in the order of the text."""
    told = tomllib.loads(DATA.read_text("utf-8"))["clauses"]
    return [Clause(name, each["about"], each.get("why", "")) for name, each in told.items()]


def tests() -> list[Test]:
    """The tests that name a clause."""
    found = [test for path in sorted((ROOT / "tests").rglob("test_*.py")) for test in _tests_in(path)]
    return [test for test in found if test.clauses - set(OF_NO_CLAUSE_HERE)]


def _tests_in(path: Path) -> Iterator[Test]:
    module = ast.parse(path.read_text("utf-8"))
    of_module = {
        name
        for node in module.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets)
        for name in _marked(node.value)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marked = {name for decorator in node.decorator_list for name in _marked(decorator)}
            yield Test(path, node.name, frozenset(of_module | marked | _named(node.name)))


def _marked(node: ast.expr) -> Iterator[str]:
    """The clauses of every `pytest.mark.clause(...)` in an expression."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.clause":
            yield from (str(ast.literal_eval(argument)) for argument in call.args)


def _named(name: str) -> set[str]:
    found = NAME.match(name)
    if not found:
        return set()
    return {found[1].replace("_", ".") + (f"({found[2]})" if found[2] else "")}


def mistakes() -> list[str]:
    """Clauses that nothing shows, clauses that are shown though they ask nothing, and tests of clauses that are not there."""
    known, shown = clauses(), tests()
    named = {clause for test in shown for clause in test.clauses}
    wrong = [f"{c.name} ({c.about}): neither a test nor a reason" for c in known if not (c.why or _is_shown(c.name, named))]
    wrong += [f"{c.name} ({c.about}): a reason, and tests" for c in known if c.why and c.name in named]
    there = {clause.name for clause in known} | set(OF_NO_CLAUSE_HERE)
    wrong += [
        f"{test.path.relative_to(ROOT)}: {test.name}: there is no clause {clause} in {DATA.name}"
        for test in shown
        for clause in sorted(test.clauses - there)
    ]
    return wrong


def _is_shown(clause: str, named: set[str]) -> bool:
    return any(other == clause or other.startswith((f"{clause}.", f"{clause}(")) for other in named)


def page() -> str:
    """The page's text."""
    shown = tests()
    lines = [HEAD, "| clause | about | shown by |", "|---|---|---|"]
    for clause in clauses():
        own = [test for test in shown if clause.name in test.clauses]
        lines.append(f"| {clause.name} | {clause.about} | {clause.why or _listed(own) or 'what is under it'} |")
    return "\n".join(lines) + "\n"


def _listed(own: list[Test]) -> str:
    """The tests by file, their names in words."""
    by_file: dict[Path, list[str]] = {}
    for test in own:
        words = NAME.sub("", f"{test.name}_", count=1).removeprefix("test_").strip("_").replace("_", " ")
        by_file.setdefault(test.path, []).append(words)
    files = (f"[{path.stem}](../{path.relative_to(ROOT)}): {'; '.join(names)}" for path, names in by_file.items())
    return "<br>".join(files)


def main() -> int:
    """Write the page; say what is wrong, and 1 where anything is."""
    PAGE.write_text(page(), "utf-8")
    for wrong in mistakes():
        print(wrong, file=sys.stderr)
    return 1 if mistakes() else 0


if __name__ == "__main__":
    sys.exit(main())
