"""One measured number with its limit, as a line and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from report import interval


@dataclass(slots=True)
class Figure:
    """`values` are those of the rounds."""

    name: str
    unit: str
    value: float
    limit: float | None
    values: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def met(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def row(self) -> str:
        spread = ""
        if len(self.values) > 1:
            low, high = interval(self.values)
            spread = f" (95 %: {low:.2f} to {high:.2f}, {len(self.values)} rounds)"
        limit = "" if self.limit is None else f", limit {self.limit:g}: {'met' if self.met else 'NOT MET'}"
        note = f"; {self.note}" if self.note else ""
        return f"{self.name}: {self.value:.2f} {self.unit}{spread}{limit}{note}"

    def plain(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*Figure.__slots__, "met")}
