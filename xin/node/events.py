"""The node's event stream: one hub, any number of subscribers, none of which can slow the others."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xin.protocol.node import Event

BACKLOG = 1000


class Subscription:
    """An async iterator of events. It ends when the hub closes, or after a `resync` when it was too far behind.

    `peer`: another node listens. It follows every node by itself, so it gets only what this one tells of itself, and
    its wish for samples is no reason to ask others for theirs (two nodes would keep each other at it for ever).
    """

    def __init__(self, *, samples: bool = False, peer: bool = False) -> None:
        self.samples = samples
        self.peer = peer
        self._waiting: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._ended = False

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    def drain(self) -> list[Event]:
        """All that waits now, without waiting."""
        events = list(self._waiting)
        self._waiting.clear()
        return events

    def wants(self, event: Event) -> bool:
        if event.type == "samples" and not self.samples:
            return False
        return not (self.peer and (event.peer is not None or event.peer_id is not None))

    def put(self, event: Event) -> None:
        if self._ended:
            return
        if len(self._waiting) >= BACKLOG:
            self._waiting.clear()
            self._waiting.append(Event(type="resync", at=event.at))
            self._ended = True
        else:
            self._waiting.append(event)
        self._arrived.set()

    def end(self) -> None:
        self._ended = True
        self._arrived.set()


class EventHub:
    """Publishes to every subscriber. Lives on the event loop's thread."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._closed = False
        self.on_watchers: list[Callable[[int], None]] = []

    @property
    def sample_watchers(self) -> int:
        """How many subscribers asked for device samples."""
        return sum(subscription.samples for subscription in self._subscriptions)

    @property
    def client_watchers(self) -> int:
        """`sample_watchers` without the peers among them."""
        return sum(subscription.samples and not subscription.peer for subscription in self._subscriptions)

    def publish(self, event: Event) -> None:
        """Hand `event` to all who want it; never blocks. An `at` of 0 becomes now."""
        event.at = event.at or time.time()
        for subscription in self._subscriptions:
            if subscription.wants(event):
                subscription.put(event)

    @contextmanager
    def subscribe(self, *, samples: bool = False, peer: bool = False) -> Iterator[Subscription]:
        subscription = Subscription(samples=samples, peer=peer)
        if self._closed:
            subscription.end()
        self._subscriptions.add(subscription)
        self._tell_watchers(samples)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self._tell_watchers(samples)

    def close(self) -> None:
        """End every subscription, once what waits in it is read."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.end()

    def _tell_watchers(self, changed: bool) -> None:
        if changed:
            for callback in self.on_watchers:
                callback(self.sample_watchers)
