"""The chat without its looks: the tree of turns, the stream, the ticker, blocks, chips and history."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from xin.errors import WorkerDied, XinError
from xin.protocol.openai import ChatChunkChoice, ChatCompletionChunk, ChatDelta, Usage
from xin.tui.chat.blocks import Document, codes
from xin.tui.chat.chips import Chips
from xin.tui.chat.conversation import Conversation, Message
from xin.tui.chat.history import History
from xin.tui.chat.stream import AnswerStream
from xin.tui.chat.talk import Talk
from xin.tui.chat.ticker import Ticker
from xin.tui.chat.visible import visible

MARKDOWN = (
    "# Title\r\n\r\nPara **bold** one\nline two\n\n- a\n  - b\n\n    x\n- c\n\n```python\nprint(1)\r\n\n```\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n> quote\n> > q2\n\n1. x\n2. y\n\n    code\n    block\n\n"
    "中文 **粗体** 👩‍👩‍👧 [ref][1]\n\n[1]: http://x\n\n---\n- z\n  ~~~\n  in a list\n  ~~~\n\n~~~\nopen"
)


class Script:
    """A client that streams what it is told; an exception in the script is raised."""

    def __init__(self, *steps: str | float | Exception | tuple[str, str] | Usage) -> None:
        self.steps = steps
        self.asked: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = []
        self.closed = 0

    async def chat_stream(self, model: str, messages: Any, **fields: Any) -> AsyncGenerator[ChatCompletionChunk, None]:
        self.asked.append((model, list(messages), fields))
        try:
            for step in self.steps:
                await asyncio.sleep(step if isinstance(step, float) else 0)
                if isinstance(step, Exception):
                    raise step
                if not isinstance(step, float):
                    yield chunk(step)
        finally:
            self.closed += 1


def chunk(step: str | tuple[str, str] | Usage) -> ChatCompletionChunk:
    if isinstance(step, Usage):
        return ChatCompletionChunk("c", 0, "m", [], step)
    delta = ChatDelta(content=step) if isinstance(step, str) else ChatDelta(reasoning_content=step[1])
    return ChatCompletionChunk("c", 0, "m", [ChatChunkChoice(0, delta)])


async def ended(talk: Talk) -> Message:
    assert talk.answer is not None
    while talk.streaming:
        await asyncio.sleep(0)
        talk.drain()
    return talk.answer


# ---- blocks


@pytest.mark.parametrize("seed", range(20))
def test_blocks_of_a_growing_text_are_those_of_the_whole(seed: int):
    chance = random.Random(seed)
    growing, at = Document(), 0
    while at < len(MARKDOWN):
        size = chance.randint(1, 7)
        growing.append(MARKDOWN[at : at + size])
        at += size
        for block in growing.blocks:
            assert MARKDOWN[block.start : block.start + len(block.source)] == block.source
    growing.finish()
    whole = Document(MARKDOWN)
    assert [(b.kind, b.start, b.source, b.open) for b in growing.blocks] == [
        (b.kind, b.start, b.source, b.open) for b in whole.blocks
    ]


def test_code_is_copied_as_it_was_sent():
    blocks = Document(MARKDOWN).blocks
    fence = next(block for block in blocks if block.kind == "fence")
    assert (fence.language, fence.copied) == ("python", "print(1)\r\n")
    assert codes(blocks) == ["print(1)\r\n", "in a list", "open"]
    assert blocks[-1].open


def test_an_open_fence_is_not_parsed_again_until_it_closes():
    text = Document()
    text.append("```py\na\n")
    tokens = text.blocks[0].tokens
    for piece in ("b", "c``", "\nd\n"):
        text.append(piece)
    assert text.blocks[0].tokens is tokens
    assert text.blocks[0].code == "a\nbc``\nd"
    text.append("``")
    text.append("`\nafter")
    assert [(b.kind, b.open, b.copied) for b in text.blocks] == [
        ("fence", False, "a\nbc``\nd"),
        ("paragraph", False, "after"),
    ]


# ---- the tree


def test_branches_of_an_answer_and_of_a_question():
    talk = Conversation()
    asked = talk.add("user", "one", parent=None)
    first = talk.add("assistant", "a1", parent=asked)
    below = talk.add("user", "two", parent=first)
    second = talk.add("assistant", "a2", parent=asked)
    assert [m.text for m in talk.path()] == ["one", "a2"]
    assert talk.branch(second) == (2, 2)
    assert talk.step(second, 1) is first
    assert talk.path() == [asked, first, below]
    edited = talk.add("user", "uno", parent=None)
    assert talk.path() == [edited] and talk.branch(edited) == (2, 2)
    talk.show(second.id)
    assert [m.text for m in talk.path()] == ["one", "a2"]


def test_a_question_without_an_answer_is_not_sent_again():
    talk = Conversation()
    one = talk.add("user", "one", parent=None)
    failed = talk.add("assistant", "", parent=one, state="failed")
    two = talk.add("user", "two", parent=failed)
    kept = talk.add("assistant", "part", parent=two, state="stopped")
    three = talk.add("user", "three", parent=kept)
    sent = talk.wire(three, "be brief")
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user"]
    assert [m["content"] for m in sent] == ["be brief", "two", "part", "three"]


# ---- the stream


async def test_an_answer_with_thinking_has_its_figures():
    client = Script(("r", "hmm"), 0.02, ("r", "so"), "Hel", "lo", Usage(7, 4, 11))
    talk = Talk("m", "n")
    talk.ask("hi", 1, client)
    answer = await ended(talk)
    assert (answer.text, answer.reasoning, answer.state) == ("Hello", "hmmso", "done")
    assert (answer.prompt_tokens, answer.completion_tokens, answer.counted) == (7, 4, True)
    assert answer.ttft_ms is not None and answer.ttft_ms >= 20
    assert answer.thinking_ms is not None and 20 <= answer.thinking_ms <= answer.ttft_ms
    assert talk.figures().context_tokens == 11


async def test_stop_keeps_what_came_and_hangs_up_and_the_next_turn_is_clean():
    client = Script("one ", "two ", 30.0, "late")
    talk = Talk("m", "n")
    talk.ask("hi", 1, client)
    while "two" not in (talk.answer.text if talk.answer else ""):
        await asyncio.sleep(0)
        talk.drain()
    first = talk.answer
    assert talk.stop() and first is not None
    await asyncio.sleep(0.01)
    assert client.closed == 1
    assert (first.state, first.text) == ("stopped", "one two ")
    talk.ask("again", 2, Script("fresh"))
    assert (await ended(talk)).text == "fresh"
    assert first.text == "one two "


async def test_a_turn_that_replaces_another_gets_nothing_of_it():
    slow = Script(*["old "] * 200)
    talk = Talk("m", "n")
    talk.ask("a", 1, slow)
    await asyncio.sleep(0.001)
    talk.ask("b", 2, Script("new ", "new"))
    assert (await ended(talk)).text == "new new"


async def test_a_failure_keeps_the_text_and_tells_the_cause():
    talk = Talk("m", "n")
    talk.ask("hi", 1, Script("some ", "text", WorkerDied("killed (signal 9)", "launch it again")))
    answer = await ended(talk)
    assert (answer.state, answer.text, answer.error) == ("failed", "some text", "killed (signal 9)")
    again = talk.regenerate(Script("whole"))
    assert again is not None and talk.conversation.branch(again) == (2, 2)
    assert (await ended(talk)).text == "whole"


async def test_a_node_that_went_silent_fails_the_answer():
    client = Script("part", 30.0)
    talk = Talk("m", "n")
    talk.ask("hi", 1, client)
    await asyncio.sleep(0.01)
    talk.fail(XinError("the node is gone"))
    assert talk.answer is not None and (talk.answer.state, talk.answer.text) == ("failed", "part")
    await asyncio.sleep(0.01)
    assert client.closed == 1


async def test_an_edited_question_branches_where_it_stood():
    talk = Talk("m", "n")
    talk.ask("one", 1, Script("a"))
    await ended(talk)
    talk.ask("two", 2, Script("b"))
    await ended(talk)
    question = talk.conversation.path()[0]
    client = Script("c")
    talk.edit(question, "uno", client)
    await ended(talk)
    assert [m.text for m in talk.conversation.path()] == ["uno", "c"]
    assert client.asked[0][1] == [{"role": "user", "content": "uno"}]


async def test_the_rate_leaves_out_the_time_before_the_first_token():
    now = iter([0.0, 5.0, 5.0, 6.0, 7.0, 7.0, 7.0, 7.0, 7.0])
    stream = AnswerStream("m", clock=lambda: next(now))
    await stream.run(Script("a", "b", "c"), [], {})
    assert stream.ttft_ms == 5000
    assert stream.tokens_per_second == pytest.approx(2 / 1.0, rel=1)


# ---- the ticker


async def test_many_pokes_are_one_flush_and_no_poke_is_none():
    flushed: list[float] = []
    loop = asyncio.get_running_loop()
    ticker = Ticker(lambda: flushed.append(loop.time()), seconds=0.02)
    for _ in range(60):
        ticker.poke()
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    count = len(flushed)
    assert 2 <= count <= 10
    assert all(b - a >= 0.019 for a, b in itertools.pairwise(flushed))
    await asyncio.sleep(0.05)
    assert len(flushed) == count
    ticker.cancel()


# ---- the prompt


def test_a_long_paste_is_a_chip_that_unfolds_to_the_same_text():
    chips = Chips()
    text = "\r\n".join(f"line {n} [pasted 2 lines #9]" for n in range(5000))
    chip = chips.fold(text)
    assert chip == "[pasted 5,000 lines #1]"
    assert chips.fold("short\n" * 50) is None
    assert chips.unfold(f"see {chip} there") == f"see {text} there"
    assert chips.before(f"see {chip}") == len(chip)
    assert chips.before("no [pasted 2 lines #7]") == 0


def test_history_walks_and_searches():
    history = History(["select a", "hello", "SELECT b"])
    assert history.older("draft") == "SELECT b"
    assert history.older("SELECT b") == "hello"
    assert history.newer() == "SELECT b"
    assert history.newer() == "draft"
    assert not history.walking
    history.search("select")
    assert (history.older(""), history.older(""), history.older("")) == ("SELECT b", "select a", None)
    history.add("hello")
    assert history.older("") == "hello" and history.older("") == "SELECT b"


def test_what_is_shown_has_no_control_bytes():
    assert visible("a\x1b[31mb\x00\x07\u202ec\r\nd\te") == "a�[31mb��c\nd\te"
    assert visible("👩‍👩‍👧 ❤️ 👍🏽") == "👩👩👧 ❤ 👍"
    assert visible("क्‍ष") == "क्‍ष"  # a joiner inside a script is part of its spelling
