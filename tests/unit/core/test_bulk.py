from math import inf

from jupiter_agent.core.bulk import (
    CONNECT_S,
    DRAIN_S,
    IDLE_S,
    LEAST_PART_BYTES,
    QUEUE_S,
    STALL_S,
    WINDOW_BYTES,
    Ended,
    Source,
    Taken,
    Window,
)
from jupiter_agent.core.messages.bulk import Ask, Gone, Knock, Part

ONE, TWO = b"1" * 32, b"2" * 32
MB = 1_000_000


def opened(now: float = 0.0, rtt_s: float = 0.001) -> Source:
    """A source whose session is up."""
    source = Source(now)
    assert source.next_said(now) == [Knock(1)]
    source.on_heard(Knock(1), 0, now + rtt_s)
    return source


def asks(source: Source, now: float) -> list[Ask]:
    return [said for said in source.next_said(now) if isinstance(said, Ask)]


def answer(source: Source, ask: Ask, now: float, size: int) -> tuple[Taken | None, list[Ended]]:
    return source.on_heard(Part(ask.sha256, size, ask.offset), ask.length, now)


class Path:
    """A link of a rate and a delay: parts leave one after the other, in the order they were asked for."""

    def __init__(self, rate_bps: float, delay_s: float) -> None:
        self.rate_bps, self.delay_s = rate_bps, delay_s
        self.free_at = 0.0
        self.most_queued_s = 0.0

    def arrival(self, asked_at: float, length: int) -> float:
        start = max(self.free_at, asked_at + self.delay_s)
        self.most_queued_s = max(self.most_queued_s, start - asked_at - self.delay_s)
        self.free_at = start + length / self.rate_bps
        return self.free_at + self.delay_s


def moved(path: Path, size: int) -> tuple[float, Source]:
    """When an object of this size is there, over this path."""
    source = opened(rtt_s=2 * path.delay_s)
    now = 2 * path.delay_s
    source.want(ONE, size, 0, now)
    coming: list[tuple[float, Ask | Knock]] = []
    while source.wanted:
        for said in source.next_said(now):
            length = said.length if isinstance(said, Ask) else 100
            coming.append((path.arrival(now, length), said))
        now, said = coming.pop(0)
        if isinstance(said, Ask):
            answer(source, said, now, size)
        else:
            source.on_heard(said, 0, now)
    return now, source


def test_an_object_is_asked_for_from_where_it_is_here_in_parts_and_ends_when_all_came():
    source = opened()
    size = 3 * LEAST_PART_BYTES
    source.want(ONE, size, LEAST_PART_BYTES, 1.0)
    first, second = asks(source, 1.0)
    assert [(first.offset, first.length), (second.offset, second.length)] == [
        (LEAST_PART_BYTES, LEAST_PART_BYTES),
        (2 * LEAST_PART_BYTES, LEAST_PART_BYTES),
    ]
    assert answer(source, first, 1.1, size) == (Taken(ONE, size, LEAST_PART_BYTES), [])
    assert answer(source, second, 1.1, size) == (Taken(ONE, size, 2 * LEAST_PART_BYTES), [Ended(ONE)])
    assert source.wanted == []
    assert source.waiting_bytes == 0


def test_nothing_is_asked_before_the_source_has_answered():
    source = Source(0.0)
    source.want(ONE, 10, 0, 0.0)
    assert source.next_said(0.0) == [Knock(1)]
    assert source.next_said(0.5) == []
    source.on_heard(Knock(1), 0, 0.6)
    assert asks(source, 0.6) == [Ask(ONE, 0, 10)]


def test_a_small_object_passes_a_large_one():
    source = opened()
    source.want(ONE, 100 * MB, 0, 1.0)
    large = asks(source, 1.0)
    source.want(TWO, 1000, 0, 1.0)
    assert {ask.sha256 for ask in large} == {ONE}
    answer(source, large[0], 1.01, 100 * MB)
    assert TWO in {ask.sha256 for ask in asks(source, 1.01)}


def test_a_part_that_never_came_ends_the_object_and_the_rest_is_let_pass():
    source = opened()
    source.want(ONE, 10 * LEAST_PART_BYTES, 0, 1.0)
    first, second = asks(source, 1.0)
    assert answer(source, second, 1.1, 10 * LEAST_PART_BYTES) == (None, [Ended(ONE, "lost")])
    assert answer(source, first, 1.1, 10 * LEAST_PART_BYTES) == (None, [])
    assert source.waiting_bytes == 0


def test_what_a_source_has_not_and_what_it_has_with_another_size():
    source = opened()
    source.want(ONE, 1000, 0, 1.0)
    source.want(TWO, 1000, 0, 1.0)
    source.next_said(1.0)
    assert source.on_heard(Gone(ONE), 0, 1.1) == (None, [Ended(ONE, "missing")])
    assert source.on_heard(Part(TWO, 2000, 0), 1000, 1.1) == (None, [Ended(TWO, "size 2000")])


def test_what_was_not_asked_for_is_dropped():
    source = opened()
    source.want(ONE, 1000, 0, 1.0)
    source.next_said(1.0)
    assert source.on_heard(Part(ONE, 1000, 5), 995, 1.1) == (None, [])
    assert source.on_heard(Part(TWO, 1000, 0), 1000, 1.1) == (None, [])
    assert source.on_heard(Knock(77), 0, 1.1) == (None, [])
    assert source.wanted == [ONE]


def test_nobody_answers_there():
    source = Source(0.0)
    source.want(ONE, 1000, 0, 0.0)
    source.next_said(0.0)
    assert source.on_deadline(CONNECT_S - 0.1) is None
    assert source.next_deadline() == CONNECT_S
    assert source.on_deadline(CONNECT_S) == [Ended(ONE, "unreachable")]


def test_a_source_that_falls_silent_is_lost_and_one_that_is_only_slow_is_not():
    source = opened()
    source.want(ONE, MB, 0, 1.0)
    first, second = asks(source, 1.0)
    answer(source, first, 2.0, MB)
    assert source.on_deadline(2.0 + STALL_S - 0.1) is None
    answer(source, second, 6.0, MB)
    assert source.on_deadline(7.0) is None
    assert source.on_deadline(100.0) == [Ended(ONE, "lost")]


def test_a_session_nobody_needs_is_closed_after_a_while():
    source = opened()
    source.want(ONE, 1000, 0, 1.0)
    [ask] = asks(source, 1.0)
    answer(source, ask, 1.1, 1000)
    assert source.on_deadline(1.1) is None
    assert source.next_deadline() == 1.1 + IDLE_S
    assert source.on_deadline(1.1 + IDLE_S) == []


def test_a_slow_path_is_filled_and_little_waits_in_it():
    path = Path(6.25 * MB, 0.020)
    seconds, source = moved(path, 50 * MB)
    assert seconds <= 1.03 * 50 / 6.25
    assert path.most_queued_s <= 2 * source.window.part_bytes / path.rate_bps + 4 * QUEUE_S


def test_a_fast_path_gets_a_large_window():
    seconds, source = moved(Path(400 * MB, 0.0002), 200 * MB)
    assert seconds <= 1.1 * 200 / 400
    assert source.window.window_bytes <= WINDOW_BYTES


def test_a_very_slow_path_gets_small_parts():
    seconds, source = moved(Path(32_000, 0.020), MB)
    assert seconds <= 1.1 * MB / 32_000
    assert source.window.part_bytes == LEAST_PART_BYTES


def test_the_path_is_measured_again_with_nothing_on_its_way():
    source = opened()
    source.want(ONE, 100 * MB, 0, 1.0)
    waiting = asks(source, 1.0)
    later = DRAIN_S + 1.0
    assert asks(source, later) == []
    for ask in waiting:
        answer(source, ask, later, 100 * MB)
    [knock] = source.next_said(later)
    assert isinstance(knock, Knock)
    assert source.next_said(later) == []
    source.on_heard(knock, 0, later + 0.5)
    assert source.window.base_s == 0.5
    assert asks(source, later + 0.5)


def test_a_window_that_nothing_is_known_of_is_two_small_parts():
    window = Window()
    assert (window.window_bytes, window.part_bytes, window.base_s) == (2 * LEAST_PART_BYTES, LEAST_PART_BYTES, inf)
