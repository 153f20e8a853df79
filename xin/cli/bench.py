"""`xin bench`."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import typer

from xin.cli import arguments, output
from xin.cli.answer import Answer
from xin.cli.connection import connect
from xin.client import AsyncClient
from xin.errors import XinError

app = typer.Typer(rich_markup_mode=None)

SUBJECTS = ("the sea", "an old bridge", "a winter garden", "the night train", "a small town", "the first snow")


class Figures(msgspec.Struct, kw_only=True):
    """Times in milliseconds, of all streams together. A gap is the time between two chunks of one stream."""

    model: str
    streams: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    tokens_per_second: float
    stream_tokens_per_second: float
    ttft_p50_ms: float
    ttft_max_ms: float
    gap_p50_ms: float
    gap_p95_ms: float
    gap_max_ms: float


@app.command()
def bench(
    uid: Annotated[str, typer.Argument(metavar="UID", autocompletion=arguments.complete_uid)],
    streams: Annotated[int, typer.Option("--streams", "-c", min=1, max=256, help="Requests at the same time.")] = 1,
    tokens: Annotated[int, typer.Option("--tokens", "-t", min=2, max=100_000, help="Tokens of each answer.")] = 128,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Measure a running model: time to first token, tokens a second, the gaps between tokens."""
    with connect(endpoint) as client:
        described = client.describe_model(uid)
    answers, elapsed = asyncio.run(_measure(client.endpoint, uid, streams, tokens))
    for answer in answers:
        if answer.error:
            raise answer.error
    figures = _figures(str(described.get("id", uid)), answers, elapsed)
    output.print_json(figures) if json else _print(figures)


async def _measure(endpoint: str, uid: str, streams: int, tokens: int) -> tuple[list[Answer], float]:
    answers = [Answer(uid) for _ in range(streams)]
    async with AsyncClient(endpoint) as client:
        warm_up = Answer(uid)
        await _stream(client, warm_up, "Say hello.", 2)
        if warm_up.error:
            raise warm_up.error
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(_stream(client, answer, _prompt(index), tokens))
                for index, answer in enumerate(answers)
            ]
            await _show(answers, running, tokens)
        return answers, time.perf_counter() - begun


def _prompt(index: int) -> str:
    """Different for every stream from the first word on, so that no prefix is shared."""
    return f"{index + 1} people write a long story about {SUBJECTS[index % len(SUBJECTS)]}. It begins like this:"


async def _stream(client: AsyncClient, answer: Answer, prompt: str, tokens: int) -> None:
    answer.begun = time.perf_counter()
    fields: dict[str, Any] = {"max_tokens": tokens, "ignore_eos": True}
    try:
        async with aclosing(client.complete_stream(answer.model, prompt, **fields)) as chunks:
            async for chunk in chunks:
                answer.take(chunk)
    except XinError as exc:
        answer.error = exc


async def _show(answers: list[Answer], running: list[asyncio.Task[None]], tokens: int) -> None:
    """A bar on a terminal; it counts chunks, which are tokens but where several came at once."""
    if not sys.stderr.isatty():
        return
    from rich.progress import Progress

    with Progress(console=output.console(stderr=True), transient=True) as bar:
        task = bar.add_task("tokens", total=tokens * len(answers))
        while not all(one.done() for one in running):
            bar.update(task, completed=sum(len(answer.arrivals) for answer in answers))
            await asyncio.wait(running, timeout=0.1)


def _figures(model: str, answers: list[Answer], elapsed: float) -> Figures:
    gaps = sorted((later - earlier) * 1000 for one in answers for earlier, later in pairwise(one.arrivals))
    firsts = sorted(answer.ttft_ms or 0.0 for answer in answers)
    rates = [answer.tokens_per_second or 0.0 for answer in answers]
    completed = sum(answer.tokens for answer in answers)
    return Figures(
        model=model,
        streams=len(answers),
        prompt_tokens=sum(answer.usage.prompt_tokens for answer in answers if answer.usage),
        completion_tokens=completed,
        seconds=elapsed,
        tokens_per_second=completed / elapsed,
        stream_tokens_per_second=sum(rates) / len(rates),
        ttft_p50_ms=_quantile(firsts, 0.5),
        ttft_max_ms=firsts[-1],
        gap_p50_ms=_quantile(gaps, 0.5),
        gap_p95_ms=_quantile(gaps, 0.95),
        gap_max_ms=gaps[-1] if gaps else 0.0,
    )


def _quantile(ordered: list[float], share: float) -> float:
    """The nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _print(one: Figures) -> None:
    rows = [
        ("streams", f"{one.streams}"),
        ("tokens", f"{one.prompt_tokens} in, {one.completion_tokens} out, {one.seconds:.2f} s"),
        ("tokens/s", f"{one.tokens_per_second:.1f} together, {one.stream_tokens_per_second:.1f} a stream"),
        ("TTFT", f"p50 {one.ttft_p50_ms:.1f} ms, max {one.ttft_max_ms:.1f} ms"),
        ("inter-token", f"p50 {one.gap_p50_ms:.2f} ms, p95 {one.gap_p95_ms:.2f} ms, max {one.gap_max_ms:.1f} ms"),
    ]
    output.draw(output.table((one.model, ""), rows))
