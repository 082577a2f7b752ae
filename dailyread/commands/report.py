"""`dailyread report`: what became of Days, how Users' months were served, what to chase before 11:00; terminal, CSV, HTML."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from rich.console import Console

from dailyread.arguments import gas_day, month
from dailyread.arguments import instant as an_instant
from dailyread.report import csv_files, tables
from dailyread.report.chase_tables import Told, chase_list
from dailyread.report.files import write_whole
from dailyread.report.point_tables import point_tables
from dailyread.report.source import Source, SourceError, read_source
from dailyread.report.statement import UserMonth, user_months
from dailyread.report.statement_tables import statements
from dailyread.report.summary import Summary, summarise
from dailyread.report.wording import instant, some
from metering.chase import Chase, chase
from metering.gasday import GasDays, to_us
from metering.ledger import AnyRecord, Day, day_of
from metering.performance import statement_lines
from metering.rules import Rules, load

HELP = """Show which Days were read, substituted and reconciled at which site, the sums, and the share of Days Valid by 11:00;
with --meter-point each Day of a point. With --month the performance statement of every User or of one (5.2). With --chase
what is missing for the Day that ended last, most valuable first, to be chased before 11:00. --csv and --html write the same
as files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="facts (`dailyread export`) or ledger records (`dailyread replay`) in JSON Lines, - is standard input; "
        "a folder of fact stores; or a ledger's SQLite file",
    )
    parser.add_argument("--html", metavar="OUT", type=Path, help="write the report as one HTML file, too")
    parser.add_argument("--csv", metavar="OUT", type=Path, help="write the Days, the equipment or the chase list as CSV, too")
    parser.add_argument("--csv-rejected", metavar="OUT", type=Path, help="write the rejected readings as CSV, too")
    parser.add_argument(
        "--meter-point", metavar="NAME", action="append", help="only this Supply Meter Point, in detail; may be given again"
    )
    parser.add_argument("--from", dest="first", metavar="DAY", type=gas_day, help="first Gas Day to show, as 2026-01-31")
    parser.add_argument("--to", dest="last", metavar="DAY", type=gas_day, help="last Gas Day to show, inclusive")
    parser.add_argument("--month", metavar="MONTH", type=month, help="the performance statement of a month, as 2026-01")
    parser.add_argument("--chase", action="store_true", help="what to chase before 11:00; as of now, without --as-of")
    parser.add_argument(
        "--user", metavar="NAME", action="append", help="with --month or --chase: only this User; may be given again"
    )
    parser.add_argument(
        "--as-of",
        metavar="INSTANT",
        type=an_instant,
        help="as it was known then, as 2026-01-31T12:00:00Z; without it, the latest that the source speaks of",
    )
    parser.add_argument("--rules", metavar="RULES.toml", type=Path, help="settings of the rules, for facts")


@dataclass(frozen=True, slots=True)
class Report:
    """One report: how to print it, and its text as files."""

    show: Callable[[Console], None]
    csv: Callable[[], str]
    html: Callable[[], str]
    rejected: Callable[[], str] | None = None


class ReportError(Exception):
    """What keeps the report from being made, in words for the person who asked for it."""


def run(args: argparse.Namespace) -> int:
    """Print and write the report; 2 where a line, an argument or the output's place is wrong."""
    try:
        _check(args)
        rules = _rules(args.rules)
        source = read_source(args.source)
        report = (_chase if args.chase else _statement if args.month else _days)(source, rules, args)
        written = _write(report, args)
    except (ReportError, SourceError) as error:
        print(f"dailyread report: {error}", file=sys.stderr)
        return 2
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    report.show(tables.console(sys.stdout))
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
    for n, wrong in source.bad:
        print(f"{args.source}: line {n}: {wrong}", file=sys.stderr)
    return 2 if source.bad else 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what does not go together."""
    of_days = {"--meter-point": args.meter_point, "--from": args.first, "--to": args.last, "--csv-rejected": args.csv_rejected}
    given = [name for name, value in of_days.items() if value is not None]
    if args.month and args.chase:
        raise ReportError("--month and --chase are two reports; ask for one")
    if given and (args.month or args.chase):
        raise ReportError(f"{', '.join(given)}: not with {'--month' if args.month else '--chase'}, only for a report of Days")
    if args.user and not (args.month or args.chase):
        raise ReportError("--user: give the month of the statement with --month, or ask for --chase")
    if args.first and args.last and args.first > args.last:
        raise ReportError(f"--from {args.first} is after --to {args.last}")


def _rules(path: Path | None) -> Rules:
    try:
        return Rules() if path is None else load(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _days(source: Source, rules: Rules, args: argparse.Namespace) -> Report:
    """The Days of all points, or in detail those of some."""
    as_of = args.as_of or source.latest or datetime.now(UTC)
    summary = _summary(source.ledger(as_of, rules), as_of, rules.calendar(), args)
    points = sorted(set(args.meter_point or ()))

    def show(to: Console) -> None:
        tables.print_report(to, summary)
        for point in points:
            to.print(point_tables(summary, point))

    return Report(
        show=show,
        csv=lambda: csv_files.days_csv(summary),
        html=lambda: _page_of_days(summary),
        rejected=lambda: csv_files.rejected_csv(summary),
    )


def _summary(records: list[AnyRecord], as_of: datetime, calendar: GasDays, args: argparse.Namespace) -> Summary:
    """The asked-for part of the ledger."""
    known = {record.meter_point for record in records}
    wanted = set(args.meter_point or known)
    if unknown := sorted(wanted - known):
        raise ReportError(f"--meter-point: the ledger has no {', '.join(unknown)}; it has {some(sorted(known), 5)}")
    first, last = args.first or date.min, args.last or date.max
    return summarise((r for r in records if r.meter_point in wanted and first <= day_of(r) <= last), as_of, calendar)


def _statement(source: Source, rules: Rules, args: argparse.Namespace) -> Report:
    """The statements of a month."""
    if source.facts is None:
        raise ReportError(
            f"--month: {source.name} is a ledger, and only facts tell what performance leaves out (5.1, 4.9.2): "
            "give the facts that it was made of, or the folder of their stores"
        )
    as_of = args.as_of or source.latest or datetime.now(UTC)
    lines = list(statement_lines(source.facts, source.ledger(as_of, rules), to_us(as_of), rules))
    users, calendar = {line.user for line in lines}, rules.calendar()
    _known_users(args.user, users)
    months = user_months((line for line in lines if line.month == args.month and line.user in (args.user or users)), rules)
    if not months:
        raise ReportError(
            f"--month {args.month}: no Day of {' or '.join(args.user or ['any User'])} in it is due "
            f"as of {instant(as_of, calendar.zone)}"
        )
    return Report(
        show=lambda to: to.print(statements(months, as_of, calendar)),
        csv=lambda: csv_files.statements_csv(months, as_of),
        html=lambda: _page_of_statements(months, as_of, calendar),
    )


def _chase(source: Source, rules: Rules, args: argparse.Namespace) -> Report:
    """What to chase."""
    as_of, calendar = args.as_of or datetime.now(UTC), rules.calendar()
    records = source.ledger(as_of, rules)
    found = chase(source.facts or (), records, to_us(as_of), rules)
    days = [record.gas_day for record in records if isinstance(record, Day)]
    if found.gas_day not in days:
        latest = f"; its latest is {max(days)}" if days else ""
        raise ReportError(f"--chase: {source.name} has no Gas Day {found.gas_day}, which ended last{latest}; give --as-of")
    _known_users(args.user, {user for r in records if isinstance(r, Day) for user in r.users})
    found, told = _of_users(found, args.user), Told(source.facts is not None, source.latest)
    return Report(
        show=lambda to: to.print(chase_list(found, calendar, told)),
        csv=lambda: csv_files.chase_csv(found, told.has_facts),
        html=lambda: _page_to_chase(found, calendar, told),
    )


def _of_users(found: Chase, users: list[str] | None) -> Chase:
    if users is None:
        return found
    return found._replace(
        items=tuple(item for item in found.items if not set(users).isdisjoint(item.users)),
        needs=tuple(need for need in found.needs if need.user in users),
    )


def _known_users(asked: list[str] | None, known: set[str]) -> None:
    if unknown := sorted(set(asked or ()) - known):
        raise ReportError(f"--user: the source has no {', '.join(unknown)}; it has {some(sorted(known), 5)}")


def _page_of_days(summary: Summary) -> str:
    from dailyread.report.html import render  # the pages need more than the terminal does

    return render(summary)


def _page_of_statements(months: Sequence[UserMonth], as_of: datetime, calendar: GasDays) -> str:
    from dailyread.report.pages import render_statements

    return render_statements(months, as_of, calendar)


def _page_to_chase(found: Chase, calendar: GasDays, told: Told) -> str:
    from dailyread.report.pages import render_chase

    return render_chase(found, calendar, told)


def _write(report: Report, args: argparse.Namespace) -> list[Path]:
    """Write the files that were asked for."""
    asked = (("--html", args.html, report.html), ("--csv", args.csv, report.csv))
    wanted = [*asked, ("--csv-rejected", args.csv_rejected, report.rejected)]
    written: list[Path] = []
    for name, path, make in wanted:
        if path is None or make is None:
            continue
        try:
            write_whole(path, make())
        except ImportError as error:
            raise ReportError(f"{name} needs {error.name}: pip install 'dailyread[report]'") from error
        except OSError as error:
            raise ReportError(f"{name} {path}: {error.strerror}") from error
        written.append(path)
    return written
