"""Following a launch until the model is ready, with a bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from xin.cli.bar import Show, bar
from xin.cli.output import say, seconds
from xin.client import Client
from xin.errors import Conflict, LaunchCancelled, LoadFailed, ModelNotFound, Unreachable
from xin.protocol.node import Instance


def wait_until_ready(client: Client, uid: str) -> Instance:
    """The instance once it is ready. Raises LoadFailed with the cause; Ctrl-C cancels the launch."""
    begun = time.time()
    try:
        with bar(uid) as show:
            instance = _follow(client, uid, show)
    except KeyboardInterrupt:
        with suppress(Conflict, ModelNotFound):  # it has become ready, or is gone
            client.cancel_launch(uid)
            say(f"launch of {uid} cancelled")
        raise
    if instance.load_seconds and (instance.ready_at or 0) > begun - 1:
        say(f"{uid} ready in {seconds(instance.load_seconds)}")
        for note in instance.notes:
            say(f"{uid}: {note}")
    return instance


def _follow(client: Client, uid: str, show: Show) -> Instance:
    for instance in _changes(client, uid):
        show(instance.progress, instance.stage or instance.state)
        if instance.state == "ready":
            return instance
        if instance.state == "failed":
            cause = instance.cause or "the launch failed"
            raise LoadFailed(f"{uid}: {cause}", instance.hint or f"more in: xin logs {uid}")
    raise LaunchCancelled(f"the launch of {uid} was cancelled", "launch it again")


def _changes(client: Client, uid: str) -> Iterator[Instance]:
    """The instance as it is, then at each change; ends when it is removed."""
    for event in client.events():
        if event.instances is not None:
            found = [instance for instance in event.instances if instance.model_uid == uid]
            if not found:
                return
            yield found[0]
        elif event.instance is not None and event.instance.model_uid == uid:
            yield event.instance
        elif event.type == "instance_removed" and event.model_uid == uid:
            return
    raise Unreachable("the node stopped while the model was loading", "see its log")
