"""Whatever is received about Daily Read Errors, and in whatever order: what was said rests on what was known, notices only go
forward, and nothing changes by itself but when it was said to (M4.8)."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from metering.facts import AnyFact, ReadErrorNotice
from metering.ledger import ReadError
from tests.metering.domain import later, local, start
from tests.metering.errors import DAY, MICROSECOND, Errors

FORWARD = {  # state -> what it may become, besides refused at the Exit Close-Out, and agreed
    "notice": {"inspection_overdue", "inspected"},
    "inspection_overdue": {"inspected"},
    "inspected": {"accepted", "final", "rejected"},
    "final": {"accepted"},
    "rejected": {"accepted", "expert"},
    "accepted": set(), "expert": set(), "agreed": set(), "refused": set(),
}  # fmt: skip
DAYS = [later(DAY, n) for n in range(4)]
VOLUMES = st.sampled_from(["100", "105", "112", "120", "131"])
FIRST = start(DAY)
SPAN_H = 30 * 24


def reachable(state: str) -> set[str]:
    found = {state}
    while more := set().union(*(FORWARD[one] for one in found)) - found:
        found |= more
    return found if state == "refused" else found | {"agreed", "refused"}


@st.composite
def errors(draw: st.DrawFn) -> Errors:
    told = Errors()
    for day in DAYS:
        if draw(st.integers(0, 3)) == 0:
            told.provided[day] = start(day, 1, 3600 * hours) if (hours := draw(st.integers(0, 200))) else None
    for _ in range(draw(st.integers(1, 14))):
        _tell(draw, told)
    return told


def _tell(draw: st.DrawFn, told: Errors) -> None:
    received = FIRST + timedelta(hours=draw(st.integers(0, SPAN_H) | st.integers(24, 150)))
    day: Any = {"day": draw(st.sampled_from(DAYS))}
    user: Any = {"user": draw(st.sampled_from("UUUV"))}
    match draw(
        st.sampled_from(["notice"] * 4 + ["inspected"] * 3 + ["accepted", "rejected", "rejected", "expert", "agreed", "fault"])
    ):
        case "notice":
            told.notice(received, draw(VOLUMES), **day, **user)
        case "inspected":
            told.inspected(
                received, works=draw(st.booleans()), estimate=draw(st.none() | VOLUMES), meter_works=draw(st.booleans()),
                at=received - timedelta(hours=draw(st.sampled_from([1, 1, 30, 100]))), **day,
            )  # fmt: skip
        case "accepted":
            told.accepted(received, **day, **user)
        case "rejected":
            told.rejected(received, **day, **user)
        case "expert":
            told.expert(received, works=draw(st.booleans()), volume=draw(VOLUMES), **day)
        case "agreed":
            told.agreed(received, draw(VOLUMES), **day)
        case "fault":
            told.fault(received, received - timedelta(hours=draw(st.integers(1, 100))), until=received)


def notices(told: Errors) -> list[ReadErrorNotice]:
    return [fact for fact in told.facts if isinstance(fact, ReadErrorNotice)]


def instants(told: Errors) -> list[Any]:
    """All instants at which something is received, provided or closed out, just before them, and some others."""
    received = [fact.received_at for fact in told.facts if fact.received_at is not None]
    days = [start(day, 6) for day in DAYS] + [local(at) for at in told.provided.values() if at is not None]
    dues = [FIRST + timedelta(days=n) for n in range(40)]
    return sorted({at for one in [*received, *days, *dues] for at in (one, one - MICROSECOND)})


@settings(max_examples=150, deadline=None)
@given(errors(), st.data())
def test_what_is_said_as_of_an_instant_rests_on_what_was_received_by_then(told: Errors, data: st.DataObject) -> None:
    now = data.draw(st.sampled_from(instants(told)))
    by_then: list[AnyFact] = [fact for fact in told.facts if fact.received_at is not None and fact.received_at <= now]
    dice = random.Random(data.draw(st.integers(0, 99)))
    copies = [
        replace(fact, received_at=at + timedelta(hours=dice.randint(0, 99))) for fact in told.facts if (at := fact.received_at)
    ]
    shuffled = [*told.facts, *dice.sample(copies, dice.randint(0, len(copies)))]
    dice.shuffle(shuffled)
    effects = told.at(now).effects
    assert told.at(now, by_then).effects == effects
    assert told.at(now, shuffled).effects == effects


@settings(max_examples=150, deadline=None)
@given(errors())
def test_notices_go_forward_and_what_was_used_at_the_close_out_stays(told: Errors) -> None:
    before = told.at(FIRST - timedelta(days=1))
    for now in instants(told):
        found = told.at(now)
        states = {(one.gas_day, one.user): one.state for one in found.effects.records}
        again = {(one.gas_day, one.user) for one in notices(told) if one.received_at == now}
        for one in before.effects.records:
            key = one.gas_day, one.user
            assert states[key] in reachable(one.state) or (one.state == "refused" and key in again)
        for day in DAYS:
            if now > start(day, 6):
                assert found.substitute(day) == before.substitute(day)
                assert found.revised(day) or not before.revised(day)
            assert not (found.substitute(day) and found.revised(day))
            assert now >= start(day, 6) or not found.revised(day)
        before = found


@settings(max_examples=150, deadline=None)
@given(errors(), st.data())
def test_nothing_changes_by_itself_before_it_is_due(told: Errors, data: st.DataObject) -> None:
    now = data.draw(st.sampled_from(instants(told)))
    found = told.at(now)
    received = [fact.received_at for fact in told.facts if fact.received_at is not None]
    provided = [told.provided.get(day, start(day, 1, 3600)) for day in DAYS]
    known = [*received, *(local(at) for at in provided if at is not None), *(start(day) for day in DAYS)]
    outside = [at for at in known if at > now]
    until = min([*outside, *([found.next_due] if found.next_due else [])], default=now + timedelta(days=99))
    assert until > now
    assert told.at(until - MICROSECOND).effects == found.effects


@settings(max_examples=150, deadline=None)
@given(errors())
def test_every_notice_has_its_record_and_every_record_holds_together(told: Errors) -> None:
    for now in instants(told)[::3]:
        records = told.at(now).effects.records
        received = {(one.gas_day, one.user) for one in notices(told) if one.received_at is not None and one.received_at <= now}
        assert sorted((one.gas_day, one.user) for one in records) == sorted(received)
        for one in records:
            _holds_together(one)


def _holds_together(one: ReadError) -> None:
    assert (one.refused is not None) == (one.state == "refused")
    assert one.due is not None or one.state not in ("notice", "inspection_overdue")
    assert one.due is None or one.state in ("notice", "inspection_overdue", "inspected")
    assert one.volume_m3 is None or one.state in ("accepted", "final", "expert", "agreed")
    assert one.expert_cost is None or one.state in ("expert", "agreed")
    assert one.inspection_cost is None or one.state not in ("refused", "notice", "inspection_overdue")
