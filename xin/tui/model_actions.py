"""What can be done to running models: the requests, their equal commands, and the questions that come first."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from xin.errors import ModelNotFound, XinError
from xin.protocol.command import launch_command
from xin.protocol.node import Instance, LaunchRequest, LocalModel
from xin.tui.store import Target
from xin.tui.text import clean

if TYPE_CHECKING:
    from xin.client import AsyncClient
    from xin.tui.app import Workbench


MOST_NAMED = 4


class ModelActions:
    """Each asks first where something running would end, and tells what went wrong as a toast instead of raising it."""

    def __init__(self, app: Workbench) -> None:
        self._app = app

    async def stop(self, targets: Sequence[Target]) -> bool:
        """End the models and free their memory, after a yes; False for a no. A launch under way is cancelled."""
        if self._refused() or not targets:
            return False
        question = _question("Stop", targets, self._running(targets))
        if not await self._app.ask(question, command=terminate_command(targets), danger=True):
            return False
        for target in targets:
            await self._try("stop", target, partial(_terminate, target.uid))
        return True

    async def kill(self, targets: Sequence[Target]) -> None:
        """As `stop`, but their processes are killed, so that even one that hangs in a library ends at once."""
        if self._refused() or not targets:
            return
        question = _question("Kill the process of", targets, self._running(targets))
        if await self._app.ask(question, command=terminate_command(targets, kill=True), danger=True):
            for target in targets:
                await self._try("kill", target, partial(_terminate, target.uid, kill=True))

    async def restart(self, targets: Sequence[Target]) -> None:
        """Launch them again with the same options; those that run are ended first, after a yes."""
        if self._refused() or not targets:
            return
        running = [target for target in targets if not self._is_failed(target)]
        if running and not await self._app.ask(
            _question("Restart", running, self._running(running)), command=self._restart_command(running)
        ):
            return
        for target in targets:
            instance = self._app.store.instance(target)
            if instance is not None:
                await self._try("restart", target, partial(_restart, instance, target.node_id))

    async def launch(self, node_id: str, model: LocalModel) -> None:
        """Begin the launch; what becomes of it is told by its row."""
        if self._refused():
            return
        target = Target(node_id, model.model_name)
        request = request_of(model)
        request.node = node_id  # the person has chosen it
        await self._try("launch", target, lambda client: client.launch(request, wait=False))

    def _is_failed(self, target: Target) -> bool:
        instance = self._app.store.instance(target)
        return instance is not None and instance.state == "failed"

    def _running(self, targets: Sequence[Target]) -> int:
        """Requests that would be cut off."""
        instances = [self._app.store.instance(target) for target in targets]
        return sum(instance.stats.running + instance.stats.waiting for instance in instances if instance is not None)

    def _restart_command(self, targets: Sequence[Target]) -> str:
        instance = self._app.store.instance(targets[0])
        return (
            f"{terminate_command(targets)} && {launch_command(relaunch_request(instance, known=True))}"
            if instance is not None
            else ""
        )

    def _refused(self) -> bool:
        if self._app.readonly:
            self._app.say("this workbench is read-only", severity="warning")
        return self._app.readonly

    async def _try(self, verb: str, target: Target, call: Callable[[AsyncClient], Awaitable[object]]) -> None:
        try:
            await call(self._app.client(target.node_id))
        except XinError as exc:
            hint = f": {exc.hint}" if exc.hint else ""
            self._app.say(clean(f"cannot {verb} {target.uid}: {exc.message}{hint}"), severity="error")


def request_of(model: LocalModel) -> LaunchRequest:
    return LaunchRequest(
        model_name=model.model_name,
        model_engine=model.model_engine,
        model_size_in_billions=model.model_size_in_billions,
        model_format=model.model_format,
        quantization=model.quantization,
    )


def relaunch_request(instance: Instance, known: bool) -> LaunchRequest:
    """The launch that made it. `known`: its name is one that the node can look up; else its file is named."""
    return LaunchRequest(
        model_name=instance.model_name,
        model_uid=instance.model_uid,
        model_engine=instance.model_engine,
        model_size_in_billions=instance.model_size_in_billions if known else None,
        model_format=instance.model_format if known else None,
        quantization=instance.quantization if known else None,
        model_path=None if known or not instance.weights else instance.weights[0],
        replica=instance.replica,
        keep_alive=instance.keep_alive,
        pin=instance.pinned,
        shard=[part.node_id for part in instance.shards],
        options=instance.options,
    )


def terminate_command(targets: Sequence[Target], *, kill: bool = False) -> str:
    return shlex.join(["xin", "terminate", *(["--kill"] if kill else []), *(target.uid for target in targets)])


async def _terminate(uid: str, client: AsyncClient, *, kill: bool = False) -> None:
    await client.terminate(uid, kill=kill, here=True)


async def _restart(instance: Instance, node_id: str, client: AsyncClient) -> None:
    known = instance.model_name in {model.model_name for model in await client.local_models()}
    if instance.state != "failed":
        with suppress(ModelNotFound):  # ended by itself meanwhile
            await client.terminate(instance.model_uid, here=True)
    request = relaunch_request(instance, known)
    request.node = node_id
    await client.launch(request, wait=False, on_demand=not instance.explicit)


def _question(verb: str, targets: Sequence[Target], requests: int) -> str:
    names = [clean(target.uid) for target in targets]
    what = (
        ", ".join(names)
        if len(names) <= MOST_NAMED
        else f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    )
    cut = f" {requests} request{'s' if requests != 1 else ''} under way would be cut off." if requests else ""
    return f"{verb} {what}?{cut}"
