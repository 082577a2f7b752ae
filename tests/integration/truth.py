"""Simulated sites for runs in the broker's time, and what their known truth asks of the facts and of the ledger."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from metering.facts import AnyFact, MeterFitted, Readings
from metering.gasday import GasDays
from metering.wire import identity
from simulators.faults import Corrupt, ReadsLow, StartDiffers
from simulators.sites import Site, Sites, load_sites
from tests.integration.cluster import Lines, decoded

MISTAKEN = "MP000012b"
GAS_DAYS = GasDays()


def some_sites(path: Path, days: int = 16, seed: int = 0) -> Sites:
    """The demo's sites twice, on the Gas Days that ended before yesterday, with a few troubles; written to a file.

    `seed`: what else has passed through the meters.
    """
    demo = load_sites()
    first = datetime.now(UTC).date() - timedelta(days=days + 1)
    sites = [_site(site, half, first, first - demo.first_day, seed) for half in "ab" for site in demo.sites]
    path.write_text(
        f"first_day = {first}\ndays = {days}\nldz = {_toml(demo.ldz)}\nsites = [\n"
        + "".join(f"  {_toml(msgspec.to_builtins(site))},\n" for site in sites)
        + "]\n"
    )
    return load_sites(path)


def _site(site: Site, half: str, first: date, moved: timedelta, seed: int) -> Site:
    troubles = {
        "eastgate-school": StartDiffers(day=first + timedelta(days=3), ticks=1500),
        "ingot-foundry": ReadsLow(first_day=first + timedelta(days=4), last_day=first + timedelta(days=5), percent=3),
        "junction-mill": Corrupt(every=6),
    }
    return msgspec.structs.replace(
        site,
        name=f"{site.name}-{half}",
        meter_point=f"{site.meter_point}{half}",
        meter=f"{site.meter}{half}",
        equipment=f"{site.equipment}{half}",
        registered=site.registered + moved,
        fitted_at=site.fitted_at + moved,
        seed=site.seed + 1000 * seed,
        faults=(troubles[site.name],) if site.name in troubles else (),
    )


def mistaken(fact: AnyFact) -> AnyFact:
    """As it is entered at first: one meter with fewer digits than it has."""
    if not isinstance(fact, MeterFitted) or fact.meter_point != MISTAKEN:
        return fact
    return msgspec.structs.replace(fact, digits=5, index=fact.index % 10**5)


def healthy(sites: Sites) -> list[Site]:
    """Those of which every reading is right, whenever it is read."""
    return [site for site in sites.sites if not any(isinstance(fault, StartDiffers | ReadsLow) for fault in site.faults)]


def check_nothing_lost_nor_doubled(sites: Sites, lines: Lines) -> None:
    """What the outboxes numbered is there without a gap, and of each Day of a healthy meter one batch, the meter's own."""
    readings = [fact for fact in decoded(lines) if isinstance(fact, Readings)]
    numbered: defaultdict[tuple[str | None, str], dict[int, bytes]] = defaultdict(dict)
    batches: defaultdict[tuple[str, date], dict[bytes, Readings]] = defaultdict(dict)
    for fact in readings:
        assert fact.sequence is not None, fact
        before = numbered[fact.outbox, fact.meter_point].setdefault(fact.sequence, identity(fact))
        assert before == identity(fact), f"one number, two facts: {fact}"
        batches[fact.meter_point, fact.gas_day][identity(fact)] = fact
    for outbox, numbers in numbered.items():
        assert sorted(numbers) == list(range(len(numbers))), f"{outbox}: numbers missing, there are {sorted(numbers)}"
    for site in healthy(sites):
        meter = site.build(GAS_DAYS)
        for day in sites.gas_days():
            found = list(batches[site.meter_point, day].values())
            assert len(found) == 1, f"{site.meter_point}, {day}: {len(found)} different batches"
            assert found[0].index == tuple(map(meter.true_index_at, found[0].instants())), f"{site.meter_point}, {day}"


def check_truth(sites: Sites, ledger: Lines) -> None:
    """Each Day of a healthy meter is Valid, and its volume is what passed."""
    days = {(record["meter_point"], record["gas_day"]): record for record in map(_decode, ledger) if record["record"] == "day"}
    for site in healthy(sites):
        meter = site.build(GAS_DAYS)
        for day in sites.gas_days():
            record = days[site.meter_point, day.isoformat()]
            assert record["valid"], record
            assert record["volume_m3"] == f"{meter.true_volume_l(day) / 1000:.3f}", record
            assert record["quantity_kwh"] is not None, record


def _decode(line: bytes) -> dict[str, Any]:
    return msgspec.json.decode(line)  # type: ignore[no-any-return]


def _toml(value: object) -> str:
    """Plain data as a TOML value on one line; what is null is left out."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items() if item is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, default=str)
