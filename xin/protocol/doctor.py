"""GET /api/doctor: what is well and what is not, with what to do."""

from __future__ import annotations

from typing import Literal

import msgspec

CheckState = Literal["ok", "warn", "fail"]


class Check(msgspec.Struct, kw_only=True):
    """One thing that was looked at. `hint`: what to do, where there is something."""

    name: str
    state: CheckState
    message: str
    hint: str = ""


class Checkup(msgspec.Struct, kw_only=True):
    """`node`: the name of the one that looked; "" where none answered."""

    node: str = ""
    checks: list[Check] = []
