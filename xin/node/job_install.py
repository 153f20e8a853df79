"""Installing an engine as a job: pip in a child; the node sees the engine as soon as it is there."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from xin.errors import BadRequest, UsageError
from xin.installer.recipes import Accelerator, accelerator_for, recipe
from xin.node.job_child import Word, run_child
from xin.node.job_record import JobRecord


class InstallOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`build`: compile here, look for no prebuilt wheel."""

    name: str
    build: bool = False
    accelerator: Accelerator | None = None


class InstallJob:
    """One installation at a time: they share one environment."""

    kind = "install"
    stages = {"find": 0.1, "build": 0.8, "install": 0.09, "check": 0.01}

    def __init__(self, order: InstallOrder, installed: Callable[[], Awaitable[None]]) -> None:
        """Raises BadRequest for an engine that cannot be installed, or not like that."""
        self._order = order
        self._installed = installed
        try:
            chosen = recipe(order.name)
        except UsageError as exc:
            raise BadRequest(exc.message, exc.hint, param="name") from exc
        if not chosen.compiled and (order.build or order.accelerator):
            field = "build" if order.build else "accelerator"
            raise BadRequest(
                f"{order.name} comes as wheels; there is nothing to build", f"leave {field} out", param=field
            )
        if chosen.compiled:
            try:
                accelerator_for(chosen, order.accelerator)
            except UsageError as exc:
                raise BadRequest(exc.message, exc.hint, param="accelerator") from exc
        self.title = f"{order.name} {chosen.version}"

    @property
    def command(self) -> str:
        return " ".join(["xin", "engines", "install", self._order.name, *self._flags()])

    @property
    def order(self) -> dict[str, Any]:
        return {"kind": self.kind, **msgspec.to_builtins(self._order)}

    async def run(self, record: JobRecord) -> str:
        def hear(word: Word) -> None:
            if word.stage:
                record.stage(word.stage, word.detail or "")
            if word.detail or word.progress is not None:
                record.progress(word.progress, word.detail or "")
            if word.log:
                record.write(word.log, level=word.level, source="pip")

        done = await run_child("xin.installer", [self._order.name, *self._flags()], hear)
        record.stage("check", "looking for it")
        await asyncio.to_thread(importlib.invalidate_caches)
        await self._installed()
        return done

    def _flags(self) -> list[str]:
        accelerator = self._order.accelerator
        chosen = [f"--{accelerator}"] if accelerator not in (None, "cpu") else []
        return [*(["--build"] if self._order.build else []), *chosen]
