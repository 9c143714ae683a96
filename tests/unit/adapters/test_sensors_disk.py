"""When a node counts as full."""

from __future__ import annotations

from jupiter_agent.adapters.sensors import Sensors

GIB, MIB = 1 << 30, 1 << 20


def fullness(sensors: Sensors, total: int, *free: int) -> list[bool]:
    return [sensors._is_full(each, total) for each in free]


def test_a_large_disk_is_full_below_half_a_gibibyte_and_has_room_again_above_a_quarter_more() -> None:
    sensors = Sensors("/", 1.0)
    assert fullness(sensors, 1000 * GIB, 513 * MIB, 511 * MIB, 639 * MIB, 641 * MIB, 513 * MIB) == [
        False, True, True, False, False,
    ]  # fmt: skip


def test_a_small_disk_is_full_below_a_twentieth() -> None:
    assert fullness(Sensors("/", 1.0), 100 * MIB, 6 * MIB, 4 * MIB) == [False, True]


def test_the_reserve_is_bytes_or_a_share_as_told() -> None:
    assert fullness(Sensors("/", 1.0, 2 * GIB), 1000 * GIB, 3 * GIB, 1 * GIB) == [False, True]
    assert fullness(Sensors("/", 1.0, 0.10), 1000 * GIB, 101 * GIB, 99 * GIB) == [False, True]
