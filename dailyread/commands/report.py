"""`dailyread report`: a ledger's tables on the terminal, and on request an HTML page with plots."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from dailyread.report import tables
from dailyread.report.ledger_lines import Ledger, read_ledger
from dailyread.report.summary import Summary, latest_instant, summarise
from metering.ledger import AnyRecord, day_of
from storage.ledger_sqlite import SqliteLedgerStore
from storage.sqlite import StoreError

HELP = """Show a ledger, as `dailyread replay` prints it or as a store keeps it: which Days were read, substituted and
reconciled at which site, the sums, and the share of Days Valid by 11:00. With --html it also writes one self-contained
page with plots."""

SQLITE_MAGIC = b"SQLite format 3\0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "ledger", metavar="LEDGER", help="ledger records in JSON Lines (- is standard input), or a ledger's SQLite file"
    )
    parser.add_argument("--html", metavar="OUT", type=Path, help="write the report as one HTML file, too")
    parser.add_argument(
        "--meter-point", metavar="NAME", action="append", help="only this Supply Meter Point; may be given again"
    )
    parser.add_argument("--from", dest="first", metavar="DAY", type=_day, help="first Gas Day to show, as 2026-01-31")
    parser.add_argument("--to", dest="last", metavar="DAY", type=_day, help="last Gas Day to show, inclusive")
    parser.add_argument(
        "--as-of",
        metavar="INSTANT",
        type=_instant,
        help="the instant the ledger speaks of, as 2026-01-31T12:00:00Z; without it, the earliest its records allow",
    )


def run(args: argparse.Namespace) -> int:
    """Print and write the report; 2 where a line, an argument or the output's place is wrong."""
    try:
        ledger = _read(args.ledger)
        summary = _summary(ledger.records, args)
        if args.html is not None:
            _write_html(args.html, summary)
    except ReportError as error:
        print(f"dailyread report: {error}", file=sys.stderr)
        return 2
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    tables.print_report(tables.console(sys.stdout), summary)
    if args.html is not None:
        print(f"wrote {args.html}", file=sys.stderr)
    for n, wrong in ledger.bad:
        print(f"{args.ledger}: line {n}: {wrong}", file=sys.stderr)
    return 2 if ledger.bad else 0


class ReportError(Exception):
    """What keeps the report from being made, in words for the person who asked for it."""


def _read(path: str) -> Ledger:
    if path == "-":
        return read_ledger(sys.stdin.buffer)
    try:
        with open(path, "rb") as file:
            if not file.peek(len(SQLITE_MAGIC)).startswith(SQLITE_MAGIC):
                return read_ledger(file)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error
    return _read_store(Path(path))


def _read_store(path: Path) -> Ledger:
    """The records that stand in the SQLite file of a store, which may be running."""
    try:
        store = SqliteLedgerStore(path)
        try:
            return Ledger(records=list(store.records()))
        finally:
            store.close()
    except (StoreError, sqlite3.Error) as error:
        raise ReportError(f"{path}: is no ledger: {error}") from error


def _summary(records: list[AnyRecord], args: argparse.Namespace) -> Summary:
    """The asked-for part of the ledger, as of the instant that all of it tells."""
    as_of = args.as_of or latest_instant(records) or datetime.now(UTC)
    known = {record.meter_point for record in records}
    wanted = set(args.meter_point or known)
    if unknown := sorted(wanted - known):
        raise ReportError(f"--meter-point: the ledger has no {', '.join(unknown)}; it has {_some(sorted(known))}")
    first, last = args.first or date.min, args.last or date.max
    if first > last:
        raise ReportError(f"--from {first} is after --to {last}")
    return summarise((r for r in records if r.meter_point in wanted and first <= day_of(r) <= last), as_of)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "none") + more


def _write_html(path: Path, summary: Summary) -> None:
    try:
        from dailyread.report.html import write_page
    except ImportError as error:
        raise ReportError(f"--html needs {error.name}: pip install 'dailyread[report]'") from error
    try:
        write_page(path, summary)
    except OSError as error:
        raise ReportError(f"--html {path}: {error.strerror}") from error


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date like 2026-01-31") from None


def _instant(text: str) -> datetime:
    wrong = argparse.ArgumentTypeError(f"{text!r} is not an instant with an offset like 2026-01-31T12:00:00Z")
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise wrong from None
    if instant.tzinfo is None:
        raise wrong
    return instant
