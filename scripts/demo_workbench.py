"""The workbench of `make demo`: meanwhile the engine is built, two quantizations are made, and both are launched."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual import work

from xin.client import AsyncClient
from xin.errors import XinError
from xin.protocol.node import Job
from xin.tui import app
from xin.tui.run import OnTerminal
from xin.tui.store import Target

ENGINE = "llama.cpp"
QUANTIZATIONS = ("Q8_0", "Q2_K")
OVER = ("done", "failed", "cancelled")
LOOK_SECONDS = 0.5


class StepFailed(Exception):
    """A job of the demo did not come to its end; the message says which."""


class DemoWorkbench(OnTerminal):
    CSS_PATH = str(Path(app.__file__).with_name("app.tcss"))

    def __init__(self, endpoint: str, *, model: str, question: str) -> None:
        super().__init__(endpoint)
        self._model = model
        self._question = question

    def on_ready(self) -> None:
        self.run_worker(self._prepare(), name="demo", exit_on_error=False)

    @work(exclusive=True, group="quit")
    async def action_quit(self) -> None:
        """The demo's node is its own, so leaving ends everything."""
        question = "Leave the demo? Its node ends with it, and so does a build that has not finished."
        if await self.ask(question, command="xin tui"):
            self.exit()

    async def _prepare(self) -> None:
        assert self.endpoint is not None
        async with AsyncClient(self.endpoint) as client:
            try:
                await self._install(client)
                node = await client.node()
                targets = [Target(node.id, await self._run(client, one)) for one in QUANTIZATIONS]
            except (XinError, StepFailed) as exc:
                self.say(f"the demo stops here: {exc}", severity="error", timeout=30)
                return
        await self._until_seen(targets)
        self.open_chat(targets, prompt=self._question)

    async def _install(self, client: AsyncClient) -> None:
        engines = {engine.name: engine for engine in (await client.node()).engines}
        if not engines[ENGINE].installed:
            self.say(f"{ENGINE} is compiled first, once, in some minutes; 3 shows how far it is", timeout=20)
            await self._done(client, await client.start_job("install", name=ENGINE, build=True))

    async def _run(self, client: AsyncClient, quantization: str) -> str:
        """Make the quantization and launch it; its uid."""
        await self._done(client, await client.start_job("quantize", source=self._model, quantization=quantization))
        made = [model for model in await client.local_models() if model.quantization == quantization]
        return await client.launch_model(made[0].model_name)

    async def _done(self, client: AsyncClient, job: Job) -> None:
        while job.state not in OVER:
            await asyncio.sleep(LOOK_SECONDS)
            job = await client.job(job.id)
        if job.state != "done":
            raise StepFailed(f"{job.kind} of {job.title} {job.state}: {job.cause or job.detail}")

    async def _until_seen(self, targets: list[Target]) -> None:
        while not set(targets) <= set(self.store.targets()):  # noqa: ASYNC110 - the store is told by the event stream
            await asyncio.sleep(LOOK_SECONDS)
