"""Each clause of Section M has tests, or a reason why it asks nothing of software; and docs/clauses.md says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clauses_script", ROOT / "scripts/clauses.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_clause_has_tests_or_a_reason_and_no_test_names_another(script: ModuleType) -> None:
    assert script.mistakes() == []


def test_the_page_is_current(script: ModuleType) -> None:
    assert (ROOT / "docs/clauses.md").read_text() == script.page(), "run `make clauses`"


@pytest.mark.parametrize(
    ("test", "clause"),
    [
        ("def test_4_4_5b_a_run(): ...", "4.4.5(b)"),
        ("def test_1_5_excess_flow(): ...", "1.5"),
        ("def test_4_2_1_06_on_a_day(): ...", "4.2.1"),
        ("def test_m4_4_2_an_assumed_day(): ...", "4.4.2"),
        ('@pytest.mark.clause("4.8.5(b)(i)")\ndef test_who_pays(): ...', "4.8.5(b)(i)"),
        ('pytestmark = [pytest.mark.clause("1.11")]\ndef test_a_weekend(): ...', "1.11"),
        ('class TestIt:\n    @pytest.mark.clause("4.5")\n    def test_it(self): ...', "4.5"),
    ],
)
def test_a_test_says_its_clause_in_its_name_or_by_a_mark(script: ModuleType, tmp_path: Path, test: str, clause: str) -> None:
    path = tmp_path / "test_some.py"
    path.write_text(f"import pytest\n{test}\n")
    assert [found.clauses for found in script._tests_in(path)] == [{clause}]


def test_what_is_wrong_is_said(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = script.Test(ROOT / "tests/test_some.py", "test_9_9_9_of_nothing", frozenset({"9.9.9"}))
    reasoned = script.Test(ROOT / "tests/test_some.py", "test_1_1_an_introduction", frozenset({"1.1"}))
    monkeypatch.setattr(script, "tests", lambda: [shown, reasoned])
    wrong = script.mistakes()
    assert "4.4.3 (it is no Ratchet Day): neither a test nor a reason" in wrong
    assert "1.1 (what the Section is for): a reason, and tests" in wrong
    assert "tests/test_some.py: test_9_9_9_of_nothing: there is no clause 9.9.9 in clauses.toml" in wrong
