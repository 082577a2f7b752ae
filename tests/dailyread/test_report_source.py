"""What a report can be made of: facts in a file or in a worker's folder, records in a file or in a store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from dailyread.jsonlines import read_facts, write_record
from dailyread.report.source import SourceError, read_source
from metering.facts import AnyFact
from metering.gasday import to_us
from metering.ledger import Day
from metering.messages import LedgerMessage
from metering.performance import performance
from metering.replay import replay
from metering.rules import Rules
from storage.fact_store import fact_store_path
from storage.fact_store_rocksdb import RocksFactStore
from storage.ledger_sqlite import SqliteLedgerStore
from tests.test_imports import ROOT

EXAMPLE = ROOT / "docs/example.jsonl"
LATEST = datetime(2026, 1, 18, 13, tzinfo=UTC)
EARLIER = datetime(2026, 1, 14, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def facts() -> list[AnyFact]:
    with EXAMPLE.open("rb") as lines:
        return [fact for fact in read_facts(lines) if isinstance(fact, msgspec.Struct)]


def test_facts_in_a_file_give_the_ledger_as_of_any_instant(facts: list[AnyFact]) -> None:
    source = read_source(str(EXAMPLE))
    assert (len(source.facts or ()), source.latest, source.bad) == (len(facts), LATEST, [])
    for as_of in (LATEST, EARLIER):
        assert source.ledger(as_of, Rules()) == list(replay(facts, to_us(as_of), Rules()).values())


def test_facts_in_a_workers_folder_give_the_same(facts: list[AnyFact], tmp_path: Path) -> None:
    for partition in (0, 3):
        store = RocksFactStore(fact_store_path(tmp_path, partition))
        store.append(0, facts if partition == 3 else [])
        if partition == 0:
            store.close()
    source = read_source(str(tmp_path))  # while the other is still open
    store.close()
    assert source.latest == LATEST
    assert source.ledger(EARLIER, Rules()) == list(replay(facts, to_us(EARLIER), Rules()).values())


def test_records_with_those_of_performance(facts: list[AnyFact], tmp_path: Path) -> None:
    ledger = replay(facts, to_us(LATEST), Rules())
    users = performance(facts, ledger.values(), to_us(LATEST), Rules())
    assert users
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"\n{\n" + b"\n".join(map(write_record, [*ledger.values(), *users])))
    source = read_source(str(path))
    assert (source.facts, source.records) == (None, list(ledger.values()))
    assert [n for n, _ in source.bad] == [2]


def test_records_in_a_store(facts: list[AnyFact], tmp_path: Path) -> None:
    ledger = replay(facts, to_us(LATEST), Rules())
    store = SqliteLedgerStore(tmp_path / "ledger.sqlite")
    store.write([LedgerMessage(partition=0, offset=1, record=record) for record in ledger.values()])
    source = read_source(str(tmp_path / "ledger.sqlite"))
    store.close()
    assert source.facts is None
    assert sum(isinstance(record, Day) for record in source.records) == 18


def test_bad_lines_of_facts_are_told_and_the_others_count(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_bytes(b'nothing\n{"fact":"regitsered"}\n' + EXAMPLE.read_bytes())
    source = read_source(str(path))
    assert [n for n, _ in source.bad] == [1, 2]
    assert source.latest == LATEST


def test_empty_and_wrong_places(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"\n")
    assert (read_source(str(path)).latest, read_source(str(path)).records) == (None, [])
    with pytest.raises(SourceError, match=r"holds no fact stores \(facts-\*\.rocksdb\)"):
        read_source(str(tmp_path))
    (tmp_path / "facts-00000.rocksdb").write_bytes(b"not a folder")
    with pytest.raises(SourceError, match=r"facts-00000\.rocksdb"):
        read_source(str(tmp_path))
    with pytest.raises(SourceError, match="No such file"):
        read_source(str(tmp_path / "nowhere"))
