"""What a launch has to download before it can load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from xin.catalog.spec import Fetch
from xin.config import NodeConfig
from xin.errors import ModelNotFound
from xin.node.launch_plan import LaunchPlan, make_plan
from xin.protocol.node import Job


class Fetcher(Protocol):
    """Jobs.fetch."""

    async def __call__(self, fetch: Fetch, hear: Callable[[Job], None], *, resume: bool) -> None: ...


async def fetched(
    plan: LaunchPlan,
    told: Callable[[float, str], None],
    *,
    fetch: Fetcher | None,
    config: NodeConfig,
    resume: bool,
) -> LaunchPlan:
    """Download what the plan wants and resolve it again. Without `resume` what was paused stays so. Raises XinError."""
    wanted = plan.spec.fetch
    if wanted is None or fetch is None:
        return plan
    await fetch(wanted, lambda job: told(job.progress, _downloaded(job)), resume=resume)
    found = await asyncio.to_thread(make_plan, plan.request, config)
    if found.spec.fetch is not None:
        hint = "name a file of it: org/repo:file"
        raise ModelNotFound(f"what was downloaded of {wanted.repo} is no model that {found.spec.engine} loads", hint)
    return found


def _downloaded(job: Job) -> str:
    speed = f", {job.bytes_per_second / 1e6:.1f} MB/s" if job.bytes_per_second else ""
    how = {"paused": "paused at", "waiting": "waits for other downloads at"}.get(job.state, "downloading")
    return f"{how} {job.bytes_done / 1e6:.0f} of {job.bytes_total / 1e6:.0f} MB{speed}"
