"""How a job's state, stage and time are told, wherever jobs are shown."""

from __future__ import annotations

from xin.protocol.node import Job
from xin.tui.glyphs import G
from xin.tui.text import clean

ACTIVE = frozenset({"running", "waiting", "paused"})
STYLES = {"running": "$accent", "failed": "$error", "done": "$success", "paused": "$warning"}


def glyph_of(state: str) -> str:
    """For jobs and for their stages."""
    signs = {"running": G.run, "paused": G.pause, "failed": G.fail, "done": G.done, "cancelled": G.stop}
    return {**signs, "skipped": G.none}.get(state, G.waiting)


def clock(seconds: float | None) -> str:
    """0:41, 12:03, 1:02:03; a dash when unknown."""
    if seconds is None:
        return G.none
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def stage_of(job: Job) -> str:
    """The stage that it failed in, or that runs; nothing when there is none."""
    for wanted in ("failed", "running"):
        for stage in job.stages:
            if stage.state == wanted:
                return clean(stage.name)
    return ""
