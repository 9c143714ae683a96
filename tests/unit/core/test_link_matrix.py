"""The links that a mapper sees: measured where they were, else estimated; nonsense never gets there."""

from math import isfinite

import msgspec
import pytest

from jupiter_agent.core import wire
from jupiter_agent.core.estimate import Net
from jupiter_agent.core.messages.links import LinkEcho, LinkProbe, Links, LinksWanted, Shape
from jupiter_agent.core.profiling.coordinates import Place
from jupiter_agent.core.profiling.matrix import LinkMatrix, sane
from jupiter_agent.errors import PeerError

FAST = Shape(0.02, p=0.0, q=1e-8, s=0.0, error=0.0, samples=9)


def nothing(node: str) -> Net:
    return Net()


def test_the_model_of_the_receiver_counts_in_its_direction_only():
    matrix = LinkMatrix({}, {"b": {"a": FAST}}, nothing, [10_000])
    latency, inv_rate, quadratic = matrix.between(["a", "b"])
    assert latency[0][1] + 10_000 * inv_rate[0][1] == pytest.approx(FAST.seconds(10_000))
    assert latency[1][0] != latency[0][1]
    assert [latency[i][i] for i in (0, 1)] == [inv_rate[i][i] for i in (0, 1)] == [0.0, 0.0]
    assert quadratic is None


def test_a_quadratic_term_reaches_the_mapper():
    bent = msgspec.structs.replace(FAST, r=1e-15)
    _, _, quadratic = LinkMatrix({}, {"b": {"a": bent}}, nothing, [10**6]).between(["a", "b"])
    assert quadratic == [[0.0, 1e-15], [0.0, 0.0]]


def test_of_two_links_that_look_alike_the_better_known_is_cheaper():
    unsure = msgspec.structs.replace(FAST, error=0.8)
    matrix = LinkMatrix({}, {"b": {"a": FAST, "c": unsure}}, nothing, [10**6])
    assert matrix.link("a", "b")[1] < matrix.link("c", "b")[1]


def test_pairs_that_never_spoke_get_places_and_the_slower_access():
    nets = {
        "a": Net(Place(0.0, height=0.001, error=0.1), up_bps=1e6, down_bps=9e6),
        "b": Net(Place(0.05, height=0.001, error=0.1), up_bps=5e6, down_bps=2e6),
    }
    matrix = LinkMatrix({}, {}, lambda node: nets.get(node, Net()), [1000])
    assert matrix.link("a", "b") == pytest.approx((0.026, 1 / 1e6, 0.0))
    assert matrix.link("b", "a") == pytest.approx((0.026, 1 / 5e6, 0.0))


def test_what_is_known_in_short_only_is_better_than_a_guess():
    matrix = LinkMatrix({"a": {"b": (0.010, 1e6, 3)}}, {}, nothing, [])
    assert matrix.link("a", "b") == matrix.link("b", "a") == (0.010, 1e-6, 0.0)
    only_rtt = LinkMatrix({"a": {"b": (0.010, 0.0, 3)}}, {"b": {"a": Shape(0.02)}}, nothing, [])
    assert only_rtt.link("a", "b")[0] == 0.010


def test_claims_that_no_link_can_have_are_dropped_and_counted():
    slow = Shape(1e4, p=1e4, q=1e3)
    said = Links(1, {"b": (1e11, 1e6, 1), "c": (0.01, 1e-9, 1), "d": (0.01, 1e6, 1)}, {"b": slow, "d": FAST})
    kept, dropped = sane(said)
    assert dropped == 3
    assert (list(kept.links), list(kept.inbound)) == (["d"], ["d"])
    assert sane(kept) == (kept, 0)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("field", range(6))
def test_models_with_negative_infinite_or_absurd_numbers_never_arrive(bad, field):
    shape = [0.02, 0.003, 1e-8, 0.0, 0.85, 0.1, 9]
    shape[field] = bad
    frame = msgspec.msgpack.encode([45, 1, {}, {"b": shape}])
    with pytest.raises(PeerError):
        wire.decode(frame)
    for probe in ([70, 1, 0, bad], [71, 1, 0.0, bad], [70, 1, -5], [70, 1, 1 << 30]):
        with pytest.raises(PeerError):
            wire.decode(msgspec.msgpack.encode(probe))


def test_whatever_passes_gives_a_mapper_finite_numbers():
    extreme = [
        Shape(1e4, 1e4, 1e3, 1e3, 100.0, 100.0, 1),
        Shape(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1),
        Shape(1e-300, q=1e-300),
    ]
    for shape in extreme:
        kept, _ = sane(Links(1, {}, {"a": shape}))
        rows = LinkMatrix({}, {"b": kept.inbound}, nothing, [1, 10**11]).between(["a", "b"])
        numbers = [each for matrix in rows if matrix for row in matrix for each in row]
        assert all(isfinite(each) and each >= 0 for each in numbers)


def test_older_peers_are_understood_and_understand():
    assert wire.decode(msgspec.msgpack.encode([45, 7, {"b": [0.01, 1e6, 2]}])) == Links(7, {"b": (0.01, 1e6, 2)})
    assert wire.decode(msgspec.msgpack.encode([44, 7])) == LinksWanted(7)
    for message in (LinkProbe(3, 100, 1e-8), LinkEcho(3, 5.0, 1e-8, b"x"), Links(7, {}, {"b": FAST})):
        assert wire.decode(wire.encode(message)) == message
