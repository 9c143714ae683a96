"""Benches: each returns figures with the bound that the product promises; `jupiter bench NAME` prints them as JSON."""

from __future__ import annotations

from msgspec import Struct


class Figure(Struct, frozen=True):
    """One measured number. `bound`: the most (or with `at_least` the least) it may be; None: shown only."""

    name: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False

    @property
    def ok(self) -> bool:
        return self.within(1.0)

    def within(self, slack: float) -> bool:
        """Whether the bound is kept, or missed by less than this factor (a busy machine)."""
        if self.bound is None:
            return True
        return self.value >= self.bound / slack if self.at_least else self.value <= self.bound * slack

    def row(self) -> dict[str, object]:
        sign = ">=" if self.at_least else "<="
        bound = None if self.bound is None else f"{sign} {self.bound:g}"
        return {"name": self.name, "value": round(self.value, 6), "unit": self.unit, "bound": bound, "ok": self.ok}
