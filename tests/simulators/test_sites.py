"""The demo's sites are consistent with themselves, and a wrong file of sites is told what is wrong with it."""

from __future__ import annotations

import itertools
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from metering.facts import CalorificValue, MeterFitted, Registered
from metering.gasday import to_datetime
from simulators.faults import ReadsLow, of_kind
from simulators.sites import DEMO_SITES, Site, SitesError, load_sites

DEMO = load_sites()


def test_the_demo_has_twelve_sites_half_of_each_protocol_and_forty_days_across_a_clock_change() -> None:
    assert [sum(site.protocol == kind for site in DEMO.sites) for kind in ("modbus_tcp", "iec62056_21")] == [6, 6]
    days = DEMO.gas_days()
    meter = DEMO.sites[0].build()
    lengths = {meter.days.end_us(day.toordinal()) - meter.days.start_us(day.toordinal()) for day in days}
    assert len(days) == 40
    assert sorted(lengths) == [24 * 3600 * 10**6, 25 * 3600 * 10**6]
    kinds = {type(fault).__struct_config__.tag for site in DEMO.sites for fault in site.faults}
    assert kinds == {"silence", "dead", "not_logged", "late", "reads_low", "start_differs", "clock_offset", "corrupt"}


@pytest.mark.parametrize("site", DEMO.sites, ids=lambda site: site.name)
def test_a_sites_profile_fits_its_q_max_and_its_annual_quantity(site: Site) -> None:
    meter = site.build()
    hours = [DEMO.starts_at() + timedelta(hours=n) for n in range(40 * 24 + 2)]
    advances = [(meter.true_index_at(b) - meter.true_index_at(a)) % 10**site.digits for a, b in itertools.pairwise(hours)]
    assert max(advances) * site.m3_per_tick <= site.q_max_m3_per_h
    volume_m3 = Decimal(sum(meter.true_volume_l(day) for day in DEMO.gas_days())) / 1000
    expected_m3 = site.annual_quantity_kwh * Decimal("3.6") / Decimal("39.2") * 40 / 365
    assert Decimal("0.8") < volume_m3 / expected_m3 < Decimal("1.4")


def test_what_reads_low_is_more_than_one_per_cent_and_a_tick_off_on_each_of_its_days() -> None:
    (site,) = [site for site in DEMO.sites if of_kind(site.faults, ReadsLow)]
    meter = site.build()
    for day in DEMO.gas_days()[16:19]:
        start, end = (to_datetime(us(day.toordinal())) for us in (meter.days.start_us, meter.days.end_us))
        rows = meter.log(start, end, end + timedelta(minutes=10))
        a, b = rows[-1].index - rows[0].index, rows[-1].reference - rows[0].reference
        assert b - a > max(b // 100, 1)


def test_one_index_rolls_over_within_the_demo() -> None:
    rolled = []
    for site in DEMO.sites:
        meter = site.build()
        starts = [meter.true_index_at(to_datetime(meter.days.start_us(day.toordinal()))) for day in DEMO.gas_days()]
        rolled += [site.name for a, b in itertools.pairwise(starts) if b < a]
    assert rolled == ["ferry-foods"]


def test_the_facts_of_the_sites_come_in_the_order_of_their_receipt() -> None:
    facts = DEMO.reference_facts()
    received = [fact.received_at for fact in facts]
    assert received == sorted(received, key=lambda at: (at is None, at))
    assert [sum(isinstance(fact, kind) for fact in facts) for kind in (Registered, MeterFitted, CalorificValue)] == [
        12,
        12,
        120,
    ]
    values = [fact.mj_per_m3 for fact in facts if isinstance(fact, CalorificValue)]
    assert Decimal(38) < min(values) < max(values) < Decimal(41)


ASCII_ONLY = r"{}: found '{}'; allowed with iec62056_21: up to 40 printable ASCII characters, but none of \( \) / ! - at "


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('meter_point = "MP000002"', 'meter_point = "MP000001"', "meter_point 'MP000001' is given more than once"),
        ('ldz = "NW"', 'ldz = "XX"', "no calorific value for 'XX'"),
        ("digits = 8", 'digits = "eight"', r"\$\.sites\[0\]\.digits"),
        ('kind = "dead"', 'kind = "undead"', r"\$\.sites\[3\]\.faults\[0\]\.kind"),
        ("percent = 3", "percentage = 3", "percentage"),
        ("days = 40", "days = ", "Invalid value"),
        ("days = 40", "days = 0", r"\$\.days"),
        ('meter = "M-1001"', 'meter = "Z\u00e4hler 1"', ASCII_ONLY.format("meter", "Z\u00e4hler 1")),
        ('equipment = "DRE-01"', 'equipment = "E(1)"', ASCII_ONLY.format("equipment", r"E\(1\)")),
        ('equipment = "DRE-01"', f'equipment = "{"E" * 41}"', ASCII_ONLY.format("equipment", "E+")),
        (
            'profile = "process"',
            'profile = "process"\npassword = "geheim\u00df"',
            "password: not shown; allowed",
        ),
        ('profile = "process"', 'profile = "process"\ndevice_address = "1/2"', "device_address: found '1/2'; allowed"),
        ('name = "harbour-offices"', 'name = "../harbour"', "name: found '../harbour'; allowed: what can be a file's name"),
    ],
)
def test_a_wrong_file_of_sites_is_told_where_and_what(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "sites.toml"
    text = DEMO_SITES.read_text().replace('protocol = "modbus_tcp"', 'protocol = "iec62056_21"', 1)
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SitesError, match=said) as caught:
        load_sites(path)
    assert str(path) in str(caught.value)


def test_what_a_modbus_meter_is_called_is_not_said_on_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sites.toml"
    text = DEMO_SITES.read_text()
    assert text.index('protocol = "modbus_tcp"') < text.index('equipment = "DRE-01"') < text.index('"iec62056_21"')
    path.write_text(text.replace('equipment = "DRE-01"', 'equipment = "Z\u00e4hler (1)"', 1))
    assert load_sites(path).sites[0].equipment == "Z\u00e4hler (1)"
    path.write_text(text.replace("profile = ", 'address = "127.0.0.1:port"\nprofile = ', 1))
    with pytest.raises(SitesError, match=r"address: found '127\.0\.0\.1:port'; allowed with modbus_tcp: HOST:PORT"):
        load_sites(path)


def test_another_number_of_days_is_checked_as_the_files_own() -> None:
    assert len(load_sites(days=3).gas_days()) == 3
    with pytest.raises(SitesError, match=r"demo_sites\.toml: .*\$\.days"):
        load_sites(days=0)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SitesError, match=r"none\.toml"):
        load_sites(tmp_path / "none.toml")
