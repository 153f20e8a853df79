"""A conversation with several models at once."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import Any

from xin.cli import output
from xin.cli.answer import Answer
from xin.client import AsyncClient
from xin.errors import XinError

FRAME_SECONDS = 1 / 12

Message = dict[str, Any]


class SideBySide:
    """Each model has its own history; a prompt goes to all of them at the same time."""

    def __init__(self, endpoint: str, models: list[str], *, system: str | None, fields: dict[str, Any]) -> None:
        self._endpoint = endpoint
        self._models = models
        self._fields = fields
        self._first: list[Message] = [{"role": "system", "content": system}] if system else []
        self.clear()

    def clear(self) -> None:
        self._histories = [list(self._first) for _ in self._models]

    def ask(self, prompt: str, *, json: bool = False) -> list[Answer]:
        """Show the answers as they come, columns on a terminal; one that failed has its error."""
        for history in self._histories:
            history.append({"role": "user", "content": prompt})
        answers = [Answer(model) for model in self._models]
        try:
            asyncio.run(self._ask(answers, json))
        finally:
            for history, answer in zip(self._histories, answers, strict=True):
                if answer.text:
                    history.append({"role": "assistant", "content": answer.text})
                else:
                    history.pop()
        return answers

    async def _ask(self, answers: list[Answer], json: bool) -> None:
        async with AsyncClient(self._endpoint) as client, asyncio.TaskGroup() as group:
            running = [
                group.create_task(self._stream(client, history, answer))
                for history, answer in zip(self._histories, answers, strict=True)
            ]
            if not json and sys.stdout.isatty():
                await _show_columns(answers, running)
                return
            for answer, task in zip(answers, running, strict=True):
                await task
                if not json:
                    _print_labelled(answer)
        if json:
            output.print_json([answer.to_json() for answer in answers])

    async def _stream(self, client: AsyncClient, history: list[Message], answer: Answer) -> None:
        try:
            async with aclosing(client.chat_stream(answer.model, history, **self._fields)) as chunks:
                async for chunk in chunks:
                    answer.take(chunk)
        except XinError as exc:
            answer.error = exc


async def _show_columns(answers: list[Answer], running: list[asyncio.Task[None]]) -> None:
    """Redraw until all have ended or the person has had enough, then leave the whole of every answer."""
    from rich.live import Live

    from xin.cli.columns import draw

    console = output.console()
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while not all(task.done() for task in running):
                live.update(draw(console, answers, height=console.height - 1), refresh=True)
                await asyncio.wait(running, timeout=FRAME_SECONDS)
    finally:
        console.print(draw(console, answers))


def _print_labelled(answer: Answer) -> None:
    print(f"== {answer.model} ==\n{answer.text.strip()}\n", flush=True)
    print(f"{answer.model}: {answer.figures()}", file=sys.stderr, flush=True)
