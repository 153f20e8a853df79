"""What is run: each scenario measures every peer in turn, round by round, and notes plain figures."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from load import Ask, Reply, stream_all, stream_beside, stream_one
from noise import CALM_CORES, CALM_FOR_WORST, Noise, cpu_seconds, quiet
from peers import LlamaCppPython, LlamaServer, Peer, RawLoop, Shape, Xin
from prompts import prose

PROMPT_WORDS = 44  # about 60 tokens
PREFIX_WORDS = 796  # about 1,000 tokens
LONG_WORDS = 995  # about 1,250 tokens
PROCESSES = 3  # of each peer, one after the other
TIMES = {1: 3, 4: 2, 16: 2}  # measurements of a few seconds, and those that differ most, are made more often
SEED_STRIDE = 100  # a measurement that is repeated has prompts of its own
Figures = dict[str, float]
Measure = Callable[[Peer, int], Awaitable[Figures]]
Start = Callable[[], contextlib.AbstractAsyncContextManager[list[Peer]]]


@dataclass(slots=True)
class Bench:
    """Settings, and what was noted: `samples[scenario][peer][round]` is the figures of one measurement.

    `disturbed` has those that were done again because others ran.
    """

    model: Path
    workdir: Path
    rounds: int
    slow_rounds: int
    tokens: int
    threads: int
    flash_attention: bool
    quiet_seconds: float
    python: str
    peers: Sequence[str]
    repeats: int = 2
    say: Callable[[str], None] = print
    samples: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)
    disturbed: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)
    commands: dict[str, dict[str, Any]] = field(default_factory=dict)

    def shape(self, parallel: int, context: int) -> Shape:
        return Shape(self.model, parallel, context, threads=self.threads, flash_attention=self.flash_attention)

    def make(self, *kinds: type[Peer]) -> list[Peer]:
        return [
            kind(self.workdir, self.python) if kind is Xin else kind(self.workdir)
            for kind in kinds
            if kind.name in self.peers
        ]

    async def run(
        self,
        scenario: str,
        start: Start,
        measure: Measure,
        *,
        times: int = 1,
        unclaimed: type[Peer] | None = None,
        calm: float = CALM_CORES,
    ) -> None:
        """Interleaved rounds, there and back by turns: neighbours in `peers` are measured next to one another, so that
        a drift of the machine cancels.

        `times` as many rounds; llama_cpp.server and the `unclaimed`, about which nothing is promised, take part in
        the first few. `calm`: cores that others may take at most, or the measurement is done again.

        All are started anew PROCESSES times: a process can be slower than the next one of its kind for as long as it
        lives (where its memory lies is the likeliest cause), by more than what is measured.
        """
        notes = self.samples.setdefault(scenario, {})
        rounds = self.rounds * times
        each = -(-rounds // PROCESSES)
        for first in range(0, rounds, each):
            async with start() as peers:
                self.commands[scenario] = {peer.name: peer.describe() for peer in peers}
                for number in range(first, min(first + each, rounds)):
                    for peer in peers if number % 2 == 0 else reversed(peers):
                        few = isinstance(peer, LlamaCppPython) or (unclaimed and isinstance(peer, unclaimed))
                        if number >= (self.slow_rounds if few else rounds):
                            continue
                        figures = await self._calmly(scenario, peer, measure, number, calm)
                        notes.setdefault(peer.name, []).append(figures)
                        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
                        self.say(f"{scenario} [{number + 1}/{rounds}] {peer.name}: {shown}")

    async def _calmly(self, scenario: str, peer: Peer, measure: Measure, number: int, calm: float) -> Figures:
        """The measurement, done again while other processes or the host disturb it; then the calmest one counts.

        What is repeated depends on the others' CPU time alone, never on the figures; all of them are kept.
        """
        tried: list[Figures] = []
        for attempt in range(self.repeats + 1):
            await quiet(self.quiet_seconds)
            with Noise() as noise:
                figures = await measure(peer, number + attempt * SEED_STRIDE)
            tried.append({**figures, "other_cores": noise.cores})
            if noise.cores <= calm:
                break
        counted = min(tried, key=lambda figures: figures["other_cores"])
        self.disturbed.setdefault(scenario, {}).setdefault(peer.name, []).extend(x for x in tried if x is not counted)
        return counted


async def fresh(bench: Bench, streams: int) -> None:
    """`streams` distinct prompts arrive together; nothing is cached."""

    async def measure(peer: Peer, number: int) -> Figures:
        prompts = [prose(PROMPT_WORDS, _seed(streams, number, index)) for index in range(streams)]
        if isinstance(peer, RawLoop):
            return _raw_figures((await peer.generate(prompts, bench.tokens))["times"], streams)
        return await _load_figures(peer, [_ask(peer, prompt, bench.tokens) for prompt in prompts])

    kinds = (RawLoop, Xin, LlamaServer, LlamaCppPython)
    unclaimed = RawLoop if streams > 1 else None  # the claim on the raw loop is one stream's
    await bench.run(
        f"fresh {streams}",
        lambda: _up(bench.make(*kinds), bench.shape(streams, 1024)),
        measure,
        times=TIMES.get(streams, 1),
        unclaimed=unclaimed,
    )


async def shared(bench: Bench) -> None:
    """Eight streams with one new 1,000-token prefix arrive together; before and after, one with such a prefix alone."""

    async def measure(peer: Peer, number: int) -> Figures:
        async def alone(again: int) -> float:
            return (await stream_one(peer.url, _ask(peer, _branch(_seed(20, number, again), 0), 8))).ttft

        before = await alone(0)
        prefix = _seed(21, number)
        figures = await _load_figures(peer, [_ask(peer, _branch(prefix, index), bench.tokens) for index in range(8)])
        one = (before + await alone(1)) / 2
        return {"ttft_one": one, "worst_over_one": figures["ttft_worst"] / one, **figures}

    await bench.run("shared prefix", lambda: _up(bench.make(LlamaServer, Xin), bench.shape(8, 1536)), measure)


async def follow_up(bench: Bench) -> None:
    """The next turn of a conversation, at once and after another conversation used the only slot."""
    suffix = "\n" + prose(PROMPT_WORDS, 31)

    async def measure(peer: Peer, number: int) -> Figures:
        history = prose(240, _seed(30, number))
        if isinstance(peer, RawLoop):
            text = history + prose(24, _seed(33, number))
            took = await peer.follow_up(text, suffix, 3)
            return {"ttft": took["prefill"] + took["steps"], "prefill": took["prefill"], "tokens": took["new_tokens"]}
        history += (await stream_one(peer.url, _ask(peer, history, 32))).text
        at_once = await stream_one(peer.url, _ask(peer, history + suffix, 4))
        history += suffix + at_once.text
        await stream_one(peer.url, _ask(peer, prose(240, _seed(32, number)), 32))
        later = await stream_one(peer.url, _ask(peer, history + suffix, 4))
        return {"ttft": at_once.ttft, "ttft_after_other": later.ttft, "tokens": _uncached(at_once)}

    await bench.run("follow-up", lambda: _up(bench.make(RawLoop, Xin, LlamaServer), bench.shape(1, 2048)), measure)


async def long_prompt(bench: Bench) -> None:
    """A 1,250-token prompt arrives while three streams run; before and after, one like it alone."""

    async def measure(peer: Peer, number: int) -> Figures:
        async def alone(again: int) -> float:
            return (await stream_one(peer.url, _ask(peer, prose(LONG_WORDS, _seed(40, number, again)), 4))).ttft

        before = await alone(0)
        asks = [_ask(peer, prose(PROMPT_WORDS, _seed(41, number, index)), 1200) for index in range(3)]
        late = _ask(peer, prose(LONG_WORDS, _seed(42, number)), 4)
        running, long = await stream_beside(peer.url, asks, replace(late, delay=2.0))
        gaps = [gap for reply in running for gap in _gaps_within(reply, long.sent_at, long.arrivals[0])]
        one = (before + await alone(1)) / 2
        return {
            "worst_gap": max(gaps),
            "ttft_alone": one,
            "ttft_beside": long.ttft,
            "beside_over_alone": long.ttft / one,
            "running": sum(reply.ended_at >= long.arrivals[0] for reply in running),
        }

    await bench.run(
        "long prompt",
        lambda: _up(bench.make(LlamaServer, Xin), bench.shape(4, 1536)),
        measure,
        unclaimed=LlamaServer,
        calm=CALM_FOR_WORST,
    )


async def two_models(bench: Bench) -> None:
    """One stream on each of two models, against the same stream on one; a copy of the file is the other model."""
    other = bench.workdir / "other.gguf"
    await asyncio.to_thread(other.write_bytes, bench.model.read_bytes())
    shape = bench.shape(1, 1024)
    tokens, seconds = 3 * bench.tokens, 20.0

    async def pair(peer: Peer, stack: contextlib.AsyncExitStack) -> tuple[Peer, Peer]:
        if isinstance(peer, Xin):
            await peer.launch("other", replace(shape, model=other))
            return peer, peer
        twin = type(peer)(bench.workdir)
        await stack.enter_async_context(twin.running(replace(shape, model=other)))
        return peer, twin

    async def measure(peer: Peer, number: int) -> Figures:
        prompts = [prose(PROMPT_WORDS, _seed(50, number, index)) for index in range(3)]
        if isinstance(peer, RawLoop):
            times = (await peer.generate(prompts[:1], tokens))["times"]
            return {"alone": (len(times) - 1) / (times[-1] - times[0])}
        first, second = pairs[peer.name]
        asks = [replace(_ask(peer, prompt, tokens), limit_seconds=seconds) for prompt in prompts]
        if isinstance(peer, Xin):
            asks[2].body["model"] = "other"
        alone = await stream_one(first.url, asks[0])
        one, two = await asyncio.gather(stream_one(first.url, asks[1]), stream_one(second.url, asks[2]))
        rates = _rates_together(one, two)
        return {"alone": alone.rate, "one": rates[0], "two": rates[1], "sum_over_alone": sum(rates) / alone.rate}

    @contextlib.asynccontextmanager
    async def start() -> AsyncIterator[list[Peer]]:
        async with contextlib.AsyncExitStack() as stack:
            peers = bench.make(RawLoop, Xin, LlamaServer, LlamaCppPython)
            peers = await stack.enter_async_context(_up(peers, shape))
            pairs.update({peer.name: await pair(peer, stack) for peer in peers if not isinstance(peer, RawLoop)})
            yield peers

    pairs: dict[str, tuple[Peer, Peer]] = {}
    await bench.run("two models", start, measure, times=2, unclaimed=LlamaServer)


SCENARIOS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "fresh-1": lambda bench: fresh(bench, 1),
    "fresh-4": lambda bench: fresh(bench, 4),
    "fresh-8": lambda bench: fresh(bench, 8),
    "fresh-16": lambda bench: fresh(bench, 16),
    "shared": shared,
    "follow-up": follow_up,
    "long": long_prompt,
    "two-models": two_models,
}


@contextlib.asynccontextmanager
async def _up(peers: Sequence[Peer], shape: Shape) -> AsyncIterator[list[Peer]]:
    """All started, and each warmed by one short request."""
    async with contextlib.AsyncExitStack() as stack:
        for peer in peers:
            await stack.enter_async_context(peer.running(shape))
            if isinstance(peer, RawLoop):
                await peer.generate(["Hello"], 4)
            else:
                await stream_one(peer.url, _ask(peer, "Hello", 4))
        yield list(peers)


async def _load_figures(peer: Peer, asks: Sequence[Ask]) -> Figures:
    node = peer.process.pid if isinstance(peer, Xin) else None
    before = cpu_seconds(node) if node else 0.0
    replies = await stream_all(peer.url, asks)
    figures = _figures(replies)
    if node:
        figures["node_cpu_ms_per_token"] = 1e3 * (cpu_seconds(node) - before) / figures["tokens"]
    return figures


def _figures(replies: Sequence[Reply]) -> Figures:
    """Aggregate tokens/s from the first request to the last token, TTFT over the streams, gaps over all tokens."""
    began = min(reply.sent_at for reply in replies)
    tokens = sum(reply.completion_tokens for reply in replies)
    ttfts = [reply.ttft for reply in replies]
    return {
        "tokens_per_second": tokens / (max(reply.ended_at for reply in replies) - began),
        "ttft_median": statistics.median(ttfts),
        "ttft_worst": max(ttfts),
        **_gap_figures([gap for reply in replies for gap in reply.gaps]),
        "tokens": tokens,
        "prefilled": sum(_uncached(reply) for reply in replies),
    }


def _raw_figures(times: list[float], streams: int) -> Figures:
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return {
        "tokens_per_second": streams * len(times) / times[-1],
        "ttft_median": times[0],
        "ttft_worst": times[0],
        **_gap_figures(gaps),
        "tokens": streams * len(times),
    }


def _gap_figures(gaps: list[float]) -> Figures:
    ordered = sorted(gaps) or [0.0]
    return {
        "gap_p50": statistics.median(ordered),
        "gap_p95": ordered[int(0.95 * (len(ordered) - 1))],
        "gap_worst": ordered[-1],
    }


def _gaps_within(reply: Reply, start: float, end: float) -> list[float]:
    return [later - earlier for earlier, later in pairwise(reply.arrivals) if later > start and earlier < end]


def _rates_together(*replies: Reply) -> list[float]:
    """Tokens per second of each stream while all of them run."""
    start = max(reply.arrivals[0] if reply.arrivals else 0.0 for reply in replies)
    end = min(reply.arrivals[-1] if reply.arrivals else 0.0 for reply in replies)
    seconds = max(end - start, 1e-3)
    return [sum(start < at <= end for at in reply.arrivals) / seconds for reply in replies]


def _ask(peer: Peer, prompt: str, tokens: int) -> Ask:
    return Ask(prompt, tokens, dict(peer.body), exact=peer.exact)


def _branch(prefix_seed: int, index: int) -> str:
    return f"{prose(PREFIX_WORDS, prefix_seed)}\nQuestion {index}: {prose(12, index)}"


def _uncached(reply: Reply) -> float:
    return reply.prompt_tokens - (reply.cached_tokens or 0)


def _seed(*parts: int) -> int:
    """One number for a scenario, a round and a stream."""
    value = 0
    for part in parts:
        value = value * 1000 + part
    return value * 1000 + len(parts)
