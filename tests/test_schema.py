"""The published JSON Schema is current, takes what we write, and refuses what is no fact."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from dailyread.jsonlines import write_fact, write_record
from metering.determine import determine
from metering.facts import FACT_TYPES
from metering.gasday import to_us
from metering.ledger import RECORD_TYPES, Performance
from metering.rules import Rules
from tests.metering.scenarios import Scenario

ROOT = Path(__file__).parents[1]
Check = Callable[[Any], None]


def committed(name: str) -> Any:
    return json.loads((ROOT / "schema" / name).read_text())


@pytest.fixture(scope="module")
def is_fact() -> Check:
    return Draft202012Validator(committed("fact.schema.json"), format_checker=FormatChecker()).validate


@pytest.fixture(scope="module")
def is_record() -> Check:
    return Draft202012Validator(committed("record.schema.json"), format_checker=FormatChecker()).validate


def test_committed_schema_is_current() -> None:
    spec = importlib.util.spec_from_file_location("schema_script", ROOT / "scripts" / "schema.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found = {path.name: path.read_text() for path in (ROOT / "schema").glob("*.json")}
    assert found == script.documents(), "run `make schema`, and tell the change in CHANGELOG.md"


@pytest.mark.parametrize(
    ("name", "field", "kinds"),
    [("fact", "fact", FACT_TYPES), ("record", "record", (*RECORD_TYPES, Performance))],
)
def test_schema_has_every_kind(name: str, field: str, kinds: tuple[Any, ...]) -> None:
    discriminator = committed(f"{name}.schema.json")["discriminator"]
    assert discriminator["propertyName"] == field
    assert set(discriminator["mapping"]) == {kind.__struct_config__.tag for kind in kinds}


@pytest.mark.parametrize("seed", range(5))
def test_what_we_write_is_valid(seed: int, is_fact: Check, is_record: Check) -> None:
    facts = Scenario(random.Random(seed)).facts
    for fact in facts:
        is_fact(json.loads(write_fact(fact)))
    last_us = max(to_us(fact.received_at) for fact in facts if fact.received_at is not None)
    records = determine(facts, last_us, Rules()).values()
    assert records
    for record in records:
        is_record(json.loads(write_record(record)))


TICK = {"fact": "tick", "received_at": "2026-02-01T05:00:00Z", "now": "2026-02-01T05:00:00Z"}
VALUE = {
    "fact": "calorific_value", "received_at": "2026-02-01T05:00:00Z", "ldz": "SE", "gas_day": "2026-01-31", "mj_per_m3": "39.4",
}  # fmt: skip


def test_facts_by_hand_are_valid(is_fact: Check) -> None:
    is_fact(TICK)
    is_fact(VALUE)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({**TICK, "fact": "tock"}, id="unknown kind"),
        pytest.param({**TICK, "colour": "red"}, id="unknown field"),
        pytest.param({key: value for key, value in TICK.items() if key != "now"}, id="field missing"),
        pytest.param({**VALUE, "mj_per_m3": 39.4}, id="a float where a decimal string is asked for"),
        pytest.param({**VALUE, "gas_day": "31.01.2026"}, id="a date in another form"),
    ],
)
def test_what_is_no_fact_is_refused(wrong: dict[str, Any], is_fact: Check) -> None:
    with pytest.raises(ValidationError):
        is_fact(wrong)
