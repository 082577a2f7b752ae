"""Every kind of fact comes out of frames and JSON Lines as it went in, and is the same fact on every way."""

import msgspec
import pytest
from hypothesis import given, settings

from dailyread.jsonlines import read_facts, write_fact
from metering.facts import FACT_TYPES, AnyFact
from metering.wire import canonical, decode_fact, decode_frame, encode_fact, encode_frame, identity, read_entry
from tests.metering.any_fact import FACTS, of_kind


@pytest.mark.parametrize("kind", FACT_TYPES, ids=lambda kind: kind.__name__)
def test_every_kind_can_be_made(kind: type[msgspec.Struct]) -> None:
    seen = set()

    @settings(max_examples=5, deadline=None)
    @given(of_kind(kind))
    def collect(fact: AnyFact) -> None:
        seen.add(type(fact))

    collect()
    assert seen == {kind}


@settings(max_examples=200, deadline=None)
@given(FACTS)
def test_a_fact_comes_out_of_a_frame_as_it_went_in(fact: AnyFact) -> None:
    frame = decode_frame(encode_frame([fact, fact], "gw"))
    assert frame.broken == []
    assert [canonical(each) for each in frame.facts] == [canonical(fact)] * 2
    assert decode_fact(encode_fact(fact)) == frame.facts[0]
    assert encode_fact(frame.facts[0]) == encode_fact(fact)


@settings(max_examples=200, deadline=None)
@given(FACTS)
def test_a_fact_comes_out_of_json_lines_as_it_went_in(fact: AnyFact) -> None:
    assert list(read_facts([write_fact(fact)], received=False)) == [fact]
    assert identity(decode_fact(encode_fact(fact))) == identity(fact)


@settings(max_examples=100, deadline=None)
@given(FACTS)
def test_an_entry_of_a_frame_is_the_fact_with_the_instant_of_its_receipt(fact: AnyFact) -> None:
    if fact.received_at is None:
        return
    entry = read_entry(encode_fact(fact), fact.received_at)
    assert entry.fact().received_at == fact.received_at
    assert canonical(entry.fact()) == canonical(fact)
