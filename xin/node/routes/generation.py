"""Running generations on a worker: started together, merged as they come, cancelled together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from xin.errors import XinError
from xin.node.worker_handle import GenerationStream, WorkerHandle
from xin.protocol.openai import PromptTokensDetails, Usage
from xin.worker.frames import CallDelta, Delta, Done, Generate, TokenLogprob, Transcribe

FIRST_SECONDS = 10.0  # so long the headers of a stream wait for its first token: less than until its first comment
Batch = Sequence[Delta | Done]


class Generations:
    """Several streams as one. Choice `index` of stream `i` is choice `i * n + index` of the response."""

    def __init__(self, streams: Sequence[GenerationStream], n: int) -> None:
        self.streams = streams
        self.n = n
        self.size = n * len(streams)
        self._completion_tokens = 0
        self._cached: dict[int, int] = {}
        self._arrived: asyncio.Queue[tuple[int, Batch] | XinError] = asyncio.Queue()
        self._running = len(streams)
        self._first: tuple[int, Batch] | None = None
        several = len(streams) > 1
        self._pumps = [asyncio.create_task(self._pump(i * n, s)) for i, s in enumerate(streams)] if several else []

    async def begin(self) -> None:
        """Wait for the first batch, which next_batch then gives, or for FIRST_SECONDS. Raises XinError.

        What fails in that time has sent nothing to the client, so another replica may still answer.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                self._first = await self.next_batch()

    async def next_batch(self) -> tuple[int, Batch]:
        """What came since the last call, and the offset of its choices; an empty batch is the end. Raises XinError."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if not self._pumps:
            return 0, await self.streams[0].next_batch()
        while self._running:
            item = await self._arrived.get()
            if isinstance(item, XinError):
                raise item
            if item[1]:
                return item
            self._running -= 1
        return 0, []

    def send_through(self, take: Callable[[Delta], bool] | None) -> None:
        """What a lone stream gives between two calls of next_batch goes to `take` at once; see GenerationStream."""
        if not self._pumps:
            self.streams[0].sink = take

    def count(self, done: Done) -> None:
        """Add an ended choice to `usage`. The choices of one request share its prompt, so its cache hit counts once."""
        self._completion_tokens += done.completion_tokens
        self._cached[done.request_id] = max(done.cached_tokens, self._cached.get(done.request_id, 0))

    def usage(self) -> Usage:
        prompt = sum(stream.prompt_tokens for stream in self.streams)
        cached = PromptTokensDetails(sum(self._cached.values()))
        return Usage(prompt, self._completion_tokens, prompt + self._completion_tokens, cached)

    def cancel(self) -> None:
        self.send_through(None)
        for pump in self._pumps:
            pump.cancel()
        for stream in self.streams:
            stream.cancel()

    async def _pump(self, offset: int, stream: GenerationStream) -> None:
        try:
            while batch := await stream.next_batch():
                self._arrived.put_nowait((offset, batch))
            self._arrived.put_nowait((offset, []))
        except XinError as exc:
            self._arrived.put_nowait(exc)


@asynccontextmanager
async def generating(
    handle: WorkerHandle, frames: Sequence[Generate] | Sequence[Transcribe]
) -> AsyncIterator[Generations]:
    """Start all frames and lend what they give; on the way out, whatever still runs is cancelled."""
    tasks = [asyncio.ensure_future(handle.generate(frame)) for frame in frames]
    try:
        running = Generations(await asyncio.gather(*tasks), frames[0].n)
        try:
            yield running
        finally:
            running.cancel()
    finally:
        # One that failed cancels the others, also those that were accepted meanwhile.
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, GenerationStream):
                result.cancel()


@dataclass(slots=True)
class Answer:
    """One finished choice."""

    texts: list[str] = field(default_factory=list)
    reasonings: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    calls: list[CallDelta] = field(default_factory=list)
    finish_reason: str = "stop"

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        return "".join(self.reasonings)

    def take(self, delta: Delta) -> None:
        self.texts.append(delta.text)
        if delta.reasoning:
            self.reasonings.append(delta.reasoning)
        if delta.logprobs:
            self.logprobs.extend(delta.logprobs)
        if delta.calls:
            self.calls.extend(delta.calls)


async def collect(running: Generations) -> list[Answer]:
    """All choices, in index order."""
    answers = [Answer() for _ in range(running.size)]
    while True:
        offset, batch = await running.next_batch()
        if not batch:
            return answers
        for item in batch:
            answer = answers[offset + item.index]
            if isinstance(item, Delta):
                answer.take(item)
            else:
                answer.finish_reason = item.finish_reason
                running.count(item)
