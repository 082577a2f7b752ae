"""The index of what is to come: against looking at every point."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metering.state import Outlook
from stream.outlooks import Outlooks

OUTLOOKS = st.builds(
    Outlook, st.none() | st.integers(0, 9), st.sampled_from([frozenset[str](), frozenset({"EA"}), frozenset({"EA", "NW"})])
)
NOTES = st.tuples(st.just("note"), st.sampled_from("abcdef"), OUTLOOKS)
LOOKS = st.tuples(st.just("look"), st.integers(0, 9), st.none())


@given(st.lists(NOTES | LOOKS, max_size=60))
def test_it_says_what_looking_at_every_point_says(steps: list[tuple[str, str, Outlook] | tuple[str, int, None]]) -> None:
    index, known = Outlooks(), dict[str, Outlook]()
    for _, what, outlook in steps:
        if outlook is not None:
            index.note(str(what), outlook)
            known[str(what)] = outlook
            continue
        now_us = int(what)
        due = {point for point, each in known.items() if each.due_us is not None and each.due_us <= now_us}
        assert set(index.due_by(now_us)) == due
        assert {point for point in known if index.due_us(point) <= now_us} == due
        for ldz in ("EA", "NW", "SC"):
            assert set(index.registered_in(ldz)) == {point for point, each in known.items() if ldz in each.ldzs}


def test_nothing_is_due_at_a_point_that_nobody_knows() -> None:
    index = Outlooks()
    assert index.due_us("a") > 2**62
    assert index.due_by(2**62) == index.registered_in("EA") == []
