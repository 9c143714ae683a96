"""The ledger: what it takes, what it counts, and that it grows to the same from any side."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupiter_agent.core.ledger import SPARE_USES, Ledger, split
from jupiter_agent.core.messages.membership import GRANT, NODE_REVOKED, ROTATION, TOKEN_REVOKED, USE, Entry

entries = st.builds(
    Entry,
    st.integers(0, 4),
    st.sampled_from(["a", "b", "c"]),
    st.integers(1, 3),
    st.binary(max_size=2),
)


def of(*entries: Entry) -> Ledger:
    ledger = Ledger()
    ledger.load(entries)
    return ledger


@given(st.lists(entries, max_size=60), st.randoms(use_true_random=False))
def test_ledgers_that_took_the_same_in_another_order_are_the_same(found: list[Entry], rng: random.Random) -> None:
    one = of(*found)
    shuffled = [*found, *found[:5]]
    rng.shuffle(shuffled)
    two = of(*shuffled)
    assert (one.digest, set(one.entries)) == (two.digest, set(two.entries))
    assert all(one.is_revoked(node) == two.is_revoked(node) for node in "abc")
    assert (one.rotation is None) == (two.rotation is None)
    if one.rotation and two.rotation:
        assert (one.rotation.number, one.rotation.subject) == (two.rotation.number, two.rotation.subject)


@given(st.lists(entries, max_size=40), st.lists(entries, max_size=40))
def test_two_ledgers_that_send_each_other_what_the_other_lacks_agree(left: list[Entry], right: list[Entry]) -> None:
    one, two = of(*left), of(*right)
    lacking = one.beyond(two.keys()), two.beyond(one.keys())
    assert two.lacks_any(one.keys()) == bool(lacking[0])
    two.load(lacking[0])
    one.load(lacking[1])
    assert one.digest == two.digest


def test_a_revocation_is_for_good_and_of_its_kind_only() -> None:
    ledger = of(Entry(NODE_REVOKED, "x", 0), Entry(TOKEN_REVOKED, "y", 0), Entry(GRANT, "y", 1))
    assert (ledger.is_revoked("x"), ledger.is_revoked("y")) == (True, False)
    assert (ledger.is_token_revoked("x"), ledger.is_token_revoked("y")) == (False, True)
    assert not ledger.add(Entry(NODE_REVOKED, "x", 0, b"again"))


def test_a_full_ledger_takes_no_use_and_says_so_and_takes_revocations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupiter_agent.core.ledger.LEDGER_MAX", 2)
    ledger = of(Entry(GRANT, "a", 0), Entry(GRANT, "b", 0))
    use = Entry(USE, "t", 1, b"x")
    assert not ledger.add(use)
    assert use not in ledger
    assert ledger.add(Entry(TOKEN_REVOKED, "t", 0))


def test_of_a_token_no_more_uses_are_kept_than_it_allows_and_some_to_show_that_it_was_shared() -> None:
    made = [Entry(USE, "t", 2, bytes([number])) for number in range(100)]
    ledger, backwards = of(*made), of(*reversed(made))
    assert len(ledger) == len(ledger.uses("t")) == 2 + SPARE_USES
    assert ledger.digest == backwards.digest


def test_the_last_rotation_holds_and_of_two_at_once_the_same_one() -> None:
    first, left, right = (Entry(ROTATION, mark, number) for mark, number in (("z", 1), ("a", 2), ("b", 2)))
    assert of(first, left, right).rotation == of(right, left, first).rotation == right


def test_keys_of_no_whole_number_are_read_as_far_as_they_go() -> None:
    assert split(b"12345678abc") == [b"12345678"]
