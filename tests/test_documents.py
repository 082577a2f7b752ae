"""The documents agree with the code: links, files, commands, options, and every table that repeats what the code says."""

from __future__ import annotations

import re
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml
from prometheus_client import Counter

from dailyread.cli import COMMANDS, _parser
from dailyread.jsonlines import BadLine, read_facts, write_record
from metering.facts import FACT_TYPES, AnyFact
from metering.ledger import RECORD_TYPES, Performance
from metering.replay import latest_us, replay
from metering.rules import Rules, Validation, load
from metering.validation import RULES
from storage.metrics import METRICS as STORE_METRICS
from storage.metrics import PROVIDE_METRICS
from stream.metrics import DEFINITIONS as STREAM_METRICS
from tests.test_imports import OURS, ROOT

MADE = {"out", "build"}


def is_not_ours(part: str) -> bool:
    """Whether a folder of that name holds what was made or installed."""
    return part.startswith(".") or part in MADE


PAGES = sorted(page for page in ROOT.rglob("*.md") if not any(is_not_ours(part) for part in page.relative_to(ROOT).parts))
README, ARCHITECTURE = ROOT / "README.md", ROOT / "ARCHITECTURE.md"
RULES_PAGE, FACTS_PAGE = ROOT / "docs/rules.md", ROOT / "docs/facts.md"
OPERATIONS_PAGE = ROOT / "docs/operations.md"

LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FOLDERS = "|".join(sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not is_not_ours(path.name)))
FILE_WORD = re.compile(rf"(?<![\w./@-])((?:{FOLDERS})/[\w./*-]*\w)")
FILE_NAME = re.compile(r"[\w./*-]+\.(?:py|md|html|json|yaml|sh|svg|png|service|conf)|[\w.-]+/(?:[\w.-]+/)*")
CALL = re.compile(r"\bdailyread ([a-z]+(?:-[a-z]+)*)((?:[^\n|;&>#`]|`(?=`))*)")
OPTION = re.compile(r"(?<!\S)\[?(--?[a-z][\w-]*)")
OF_THEIR_OWN = {"secrets/grafana-password"}  # made where it is used


class Row(NamedTuple):
    """A row of a table in Markdown: its cells, without the marks of code."""

    cells: tuple[str, ...]

    def name(self) -> str:
        return self.cells[0]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code_of(text: str) -> Iterator[str]:
    """Fenced and indented blocks, and code within lines."""
    yield from re.findall(r"^```[^\n]*\n(.*?)^```", text, re.S | re.M)
    yield from (line.strip() for line in text.splitlines() if line.startswith("    "))
    yield from CODE.findall(text)


def exists(page: Path, name: str) -> bool:
    """Whether a file or folder of that name (perhaps with a star) is at the root, in a package, or beside the page or below."""
    beside = [folder for folder in page.parent.iterdir() if folder.is_dir()] if page.parent != ROOT else []
    places = [ROOT, *(ROOT / package for package in OURS), page.parent, *beside]
    return any(next(iter(place.glob(name.removeprefix("./").rstrip("/"))), None) is not None for place in places)


def rows(text: str, head: str) -> list[Row]:
    """The rows of the table whose head begins so."""
    lines = text[text.index(f"\n| {head}") + 1 :].splitlines()[2:]
    table: list[Row] = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append(Row(tuple(cell.strip().replace("`", "") for cell in line.strip("|").split(" | "))))
    return table


def anchors(page: Path) -> set[str]:
    """Of a page's headings what stands behind # in a link."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_pages() -> None:
    assert {README, ARCHITECTURE, RULES_PAGE, FACTS_PAGE} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    wrong = []
    for target in LINK.findall(page.read_text()):
        path, _, part = target.partition("#")
        file = page.parent / path if path else page
        if not re.match(r"[a-z]+:", target) and not (file.exists() and (not part or part in anchors(file))):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    named = set()
    for code in code_of(page.read_text()):
        named |= set(FILE_WORD.findall(code))
        if FILE_NAME.fullmatch(code) and not code.startswith(("/", "out/")):
            named.add(code)
    assert sorted(name for name in named - OF_THEIR_OWN if not exists(page, name)) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_and_option_is_there(page: Path) -> None:
    wrong = []
    for code in code_of(page.read_text()):
        for command, rest in CALL.findall(code):
            known = options(command) if command in COMMANDS else frozenset()
            wrong += [f"{command} {option}" for option in OPTION.findall(rest) if option not in known]
            wrong += [command] if command not in COMMANDS else []
    assert wrong == []


@cache
def options(command: str) -> frozenset[str]:
    for action in _parser(command)._actions:
        if isinstance(action, _SubParsersAction):
            chosen: ArgumentParser = action.choices[command]
            return frozenset(chosen._option_string_actions)
    raise AssertionError("the command line has no commands")


def test_the_table_of_commands_is_complete_and_in_order() -> None:
    assert [row.name() for row in rows(README.read_text(), "command |")] == list(COMMANDS)


@pytest.mark.parametrize(("head", "metrics"), [("worker's metric", STREAM_METRICS), ("writer's metric", STORE_METRICS)])
def test_every_metric_is_told_with_what_to_do(head: str, metrics: Sequence[Any]) -> None:
    told = [row.cells for row in rows(OPERATIONS_PAGE.read_text(), head)]
    assert told == [tuple(cell.replace("`", "") for cell in (each.name, each.meaning, each.to_do)) for each in metrics]


def test_every_alert_is_on_a_metric_that_is_there() -> None:
    said = (ROOT / "deploy/prometheus/alerts.yaml").read_text()
    known = {f"{each.name}{'_total' if each.kind is Counter else ''}" for each in STREAM_METRICS}
    known |= {each.name for each in (*STORE_METRICS, *PROVIDE_METRICS)}
    for rule in yaml.safe_load(said)["groups"][0]["rules"]:
        used = set(re.findall(r"dailyread_(?:stream|store|provide)_\w+", rule["expr"]))
        assert used, rule["alert"]
        assert used <= known, rule["alert"]
        assert rule["annotations"]["summary"]


def test_the_table_of_who_may_import_whom_is_that_of_its_test() -> None:
    table = {row.cells[0]: row.cells[2] for row in rows(ARCHITECTURE.read_text(), "package |")}
    said = {name: set() if cell == "nothing" else set(cell.split(", ")) for name, cell in table.items()}
    assert said == OURS


def test_the_table_of_rules_is_that_of_the_code() -> None:
    table = [row.cells[:3] for row in rows(RULES_PAGE.read_text(), "rule |")]
    assert table == [(rule.id, rule.clause, rule.action) for rule in RULES]


@pytest.mark.parametrize(("head", "kind"), [("setting |", Rules), ("in an entry", Validation)])
def test_every_setting_of_the_rules_is_told_with_its_default(head: str, kind: type[msgspec.Struct]) -> None:
    told: dict[str, str] = {}
    for row in rows(RULES_PAGE.read_text(), head):
        told |= zip(row.cells[0].split(", "), row.cells[1].split(", "), strict=False)
    plain = msgspec.structs.asdict(kind())
    assert told.keys() == plain.keys()
    values = {key: value for key, value in plain.items() if isinstance(value, (int, str, Decimal))}
    assert {key: told[key] for key in values} == {key: str(value) for key, value in values.items()}


def test_the_example_of_settings_can_be_used() -> None:
    text = RULES_PAGE.read_text()
    block = text[text.index("    close_out_days") : text.index("| setting |")]
    rules = load("\n".join(line.removeprefix("    ") for line in block.splitlines()).encode())
    assert rules.validation[-1].action == {"excess_flow": "flag"}


KINDS = {"Facts": FACT_TYPES, "Records": (*RECORD_TYPES, Performance)}


def part(heading: str) -> str:
    """What the page of facts says under a heading of the second level."""
    return FACTS_PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    ("heading", "kind"),
    [pytest.param(heading, kind, id=kind.__name__) for heading, kinds in KINDS.items() for kind in kinds],
)
def test_every_field_of_a_fact_or_record_is_told(heading: str, kind: type[msgspec.Struct]) -> None:
    section = part(heading).split(f"\n### `{kind.__struct_config__.tag}`\n")[1]
    told = [row.name() for row in rows(section, "field |")]
    assert told == [name for name in kind.__struct_encode_fields__ if name != "received_at" or heading == "Records"]


@pytest.mark.parametrize("heading", KINDS)
def test_no_fact_or_record_is_told_that_is_none(heading: str) -> None:
    told = re.findall(r"^### `(\w+)`$", part(heading), re.M)
    assert told == [str(kind.__struct_config__.tag) for kind in KINDS[heading]]


def example() -> list[AnyFact]:
    facts: list[AnyFact] = []
    for found in read_facts((ROOT / "docs/example.jsonl").open("rb")):
        assert not isinstance(found, BadLine), found
        facts.append(found)
    return facts


def test_the_example_gives_the_records_that_the_page_shows() -> None:
    facts = example()
    as_of_us = latest_us(facts)
    assert as_of_us is not None
    printed = {write_record(record).decode() for record in replay(facts, as_of_us, Rules()).values()}
    shown = re.findall(r'^    (\{"record".*)$', FACTS_PAGE.read_text(), re.M)
    assert shown
    assert set(shown) <= printed
