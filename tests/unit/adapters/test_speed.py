"""The speed index: the best of several rounds, remembered for this processor."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jupiter_agent.adapters import speed


def rounds(*seconds: float) -> tuple[float, int]:
    given = iter(seconds)
    return speed.speed_index(lambda: next(given), lambda s: None)


def test_a_calm_core_needs_few_rounds() -> None:
    assert rounds(0.0021, 0.002, 0.0022, 0.002, 0.003) == (2.0, 5)


def test_a_busy_core_is_measured_until_two_of_the_best_agree() -> None:
    assert rounds(0.004, 0.005, 0.0061, 0.0072, 0.009, 0.0035, 0.002, 0.00201) == (2.0, 8)


def test_a_core_that_is_never_calm_is_measured_so_often_and_no_more() -> None:
    def noisy() -> Iterable[float]:
        value = 1.0
        while True:
            value *= 0.9
            yield value

    given = iter(noisy())
    assert speed.speed_index(lambda: next(given), lambda s: None)[1] == speed.MOST


def test_a_round_takes_some_milliseconds_of_cpu() -> None:
    assert 1e-4 < speed.one_round() < 0.5


def test_the_index_is_measured_once_and_again_where_the_processor_is_another(tmp_path: Path) -> None:
    asked = []

    def measure() -> tuple[float, int]:
        asked.append(1)
        return 1.5, 5

    path = tmp_path / "speed.json"
    assert [speed.remembered(path, measure) for _ in range(3)] == [1.5, 1.5, 1.5]
    assert len(asked) == 1
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    assert speed.remembered(path, measure) == 1.5
    path.write_text('{"speed": "fast"}')
    assert speed.remembered(path, measure) == 1.5
    path.write_text("[]")
    assert speed.remembered(path, measure) == 1.5
    assert len(asked) == 4
