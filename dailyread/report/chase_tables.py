"""The chase list for a terminal, and its words, which the page uses too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from dailyread.report.statement import exact_share, reason_of
from dailyread.report.tables import new_table
from dailyread.report.wording import gas_day, instant, plain, pounds, some
from metering.chase import Chase, History, Item, Need
from metering.gasday import GasDays
from metering.ledger import Day

STYLES = {"likely": "green", "uncertain": "", "unlikely": "bold red"}
STALE = timedelta(hours=1)
POINTS_MAX = 3
NO_FACTS = (
    "The source is a ledger without its facts: what only these tell (telemetry, access, Force Majeure, Reed Switch) is not "
    "left out, and when equipment was heard and which polls failed is not known."
)
ORDER = (
    "Order: what will hardly answer last; then what the Day costs, the Users below their share, the Users and meters served, "
    "the run, the chance: on how many of the Days on which it was missing as late it came by 11:00."
)


class Told(NamedTuple):
    """What the source can tell: whether it holds facts, and the latest instant that it speaks of."""

    has_facts: bool
    latest: datetime | None

    def warnings(self, found: Chase, calendar: GasDays) -> list[str]:
        """What the reader must know before trusting the list."""
        said = [] if self.has_facts else [NO_FACTS]
        if self.latest is not None and found.as_of - self.latest > STALE:
            age = duration(self.latest, found.as_of)
            said.append(
                f"The source ends {age} before, at {instant(self.latest, calendar.zone)}: what came since is not in it."
            )
        return said


def chase_list(found: Chase, calendar: GasDays, told: Told) -> RenderableType:
    """What to chase, what each User needs, and what does not count."""
    return Group(*_parts(found, calendar, told))


def _parts(found: Chase, calendar: GasDays, told: Told) -> Iterator[RenderableType]:
    yield Text(headline(found, calendar), style="bold")
    for warning in told.warnings(found, calendar):
        yield Text(warning, style="bold yellow")
    if found.items:
        yield Group("", _items(found, told), Text(ORDER, style="dim"))
    if found.needs:
        yield Group("", _needs(found))
    if found.excluded:
        left_out = ", ".join(f"{plain(name)}: {reason_of(reason)}" for name, reason in found.excluded)
        yield Group("", Text(f"Missing too, but left out of performance: {left_out}"))


def headline(found: Chase, calendar: GasDays) -> str:
    """The Day, the time left, and how much is missing, in a sentence or two."""
    when = f"Gas Day {gas_day(found.gas_day)}, as of {instant(found.as_of, calendar.zone)}"
    rest = f"{duration(found.as_of, found.eleven)} left until 11:00" if not found.is_over else "11:00 has passed"
    count = len(found.items)
    if not count:
        return f"{when}: {rest}. No equipment that counts is missing."
    verb = "has failed" if found.is_over else "is missing"
    verb = verb if count == 1 else verb.replace("has", "have").replace("is m", "are m")
    return f"{when}: {rest}. {count:,} item{'s' * (count != 1)} of equipment {verb}."


def duration(since: datetime, until: datetime) -> str:
    """`1 h 5 min`, whole minutes, cut off; days from two on."""
    minutes = max(0, int((until - since).total_seconds()) // 60)
    if minutes >= 2 * 24 * 60:
        return f"{minutes // (24 * 60)} days"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def lacks(day: Day) -> str:
    """What a Day lacks to be Valid: a reading, or one that no rule rejects."""
    lacking = [name for name, index in (("start", day.start_index), ("end", day.end_index)) if index is None]
    reading = f"no {' or '.join(lacking)}" if lacking else ""
    return "; ".join(part for part in (reading, ", ".join(day.failed)) if part) or "not Valid"


def wants(item: Item) -> str:
    """What the item lacks, in a few words; where it serves several points, which of them lack it."""
    if not item.lacking:
        return "Valid, but too late"
    points: dict[str, list[str]] = {}
    for day in item.lacking:
        points.setdefault(lacks(day), []).append(day.meter_point)
    if len(item.points) == 1:
        return next(iter(points))
    return "; ".join(f"{lack}: {some(names, POINTS_MAX)}" for lack, names in points.items())


def chance(history: History) -> str:
    """How often it came when it was as late as now, in a few words."""
    if not history.days:
        return "no history"
    if not history.missing_then:
        return f"never so late in {history.days} Days"
    return f"{history.recovered} of {history.missing_then} such Days"


def contact(item: Item, as_of: datetime) -> tuple[str, str]:
    """How long ago it was heard, and how often it was asked in vain today."""
    known = item.contact
    heard = "never" if known.heard_at is None else f"{duration(known.heard_at, as_of)} ago"
    failed = f"{known.failed_polls}" + (f" ({known.reason})" if known.reason else "") if known.failed_polls else "–"
    return heard, failed


def bears(need: Need) -> str:
    """How many failing Days the month still bears, in a few words."""
    if need.bearable < 0:
        return f"no longer met: {-need.bearable} too many"
    return f"{need.bearable} more, this Day's included"


def _items(found: Chase, told: Told) -> RenderableType:
    shown = new_table(
        "Chase, most valuable first",
        ("equipment", "left"), ("Users", "left"), ("lacks", "left"), ("failed\nin a row", "right"),
        ("costs £", "right"), ("chance by 11:00", "left"), ("last heard", "left"), ("failed polls", "left"),
    )  # fmt: skip
    for n, item in enumerate(found.items, start=1):
        outlook = Text(item.history.outlook, style=STYLES[item.history.outlook])
        outlook.append(f"\n{chance(item.history)}", style="dim")
        heard, failed = contact(item, found.as_of) if told.has_facts else ("not known", "not known")
        name = Text(f"{n}. {plain(item.equipment)}").append(f"\n{plain(some(item.points, POINTS_MAX))}", style="dim")
        cost = pounds(item.charge_gbp) if item.charge_gbp else "–"
        users = Text(plain(", ".join(item.users)))
        shown.add_row(name, users, Text(plain(wants(item))), str(item.run or "–"), cost, outlook, heard, Text(plain(failed)))
    return shown


def _needs(found: Chase) -> RenderableType:
    shown = new_table(
        "What each User needs",
        ("User", "left"), ("this Day", "right"), ("share", "right"), ("still needed", "right"), ("month before", "right"),
        ("share", "right"), ("the month still bears", "left"),
    )  # fmt: skip
    for need in found.needs:
        needed = Text(str(need.needed), style="bold red" if need.needed else "")
        day = (f"{need.b}/{need.a}", exact_share(need.b, need.a), needed)
        month = (f"{need.month_b:,}/{need.month_a:,}", exact_share(need.month_b, need.month_a))
        shown.add_row(Text(plain(need.user)), *day, *month, Text(bears(need), style="bold red" if need.bearable < 0 else ""))
    return shown
