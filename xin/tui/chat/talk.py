"""One pane's side of a chat without its looks: whom it talks to, what was said, and the answer on its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from xin.errors import XinError
from xin.tui.chat.conversation import Conversation, Message
from xin.tui.chat.stream import AnswerStream, ChatClient


class TalkLog(Protocol):
    """Where a talk is written down as it goes."""

    def added(self, talk: Talk, message: Message) -> int: ...

    def grew(self, message: Message, text: str, reasoning: str) -> None: ...

    def ended(self, message: Message) -> None: ...

    def moved(self, talk: Talk, message: Message) -> None: ...


@dataclass(slots=True, frozen=True)
class Figures:
    """What the pane's border tells. `live`: the answer still comes; `exact`: the node has counted the tokens."""

    live: bool
    exact: bool
    ttft_ms: float | None = None
    waited_ms: float = 0.0
    tokens_per_second: float | None = None
    tokens: int = 0
    context_tokens: int = 0


@dataclass(eq=False)
class Talk:
    """`model` is the uid, `node` its node's id. `on_news` is called when something waits to be drained."""

    model: str
    node: str
    system: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)
    log: TalkLog | None = None
    on_news: Callable[[], None] = lambda: None
    index: int = 0
    stream: AnswerStream | None = None
    answer: Message | None = None

    def __post_init__(self) -> None:
        self.conversation = Conversation(self._record)

    @property
    def streaming(self) -> bool:
        return self.stream is not None

    def restore(self, messages: Sequence[Message], active: int | None) -> None:
        self.conversation = Conversation.restored(messages, active, self._record)

    def clear(self) -> None:
        """Begin anew; what was said stays in the session."""
        self.stop()
        self.conversation = Conversation(self._record)
        self.answer = None

    def ask(
        self,
        text: str,
        turn: int,
        client: ChatClient,
        *,
        images: Sequence[str] = (),
        fields: Mapping[str, Any] | None = None,
    ) -> Message:
        """Append the question and start its answer; `fields` go before the sampling of the talk, this once."""
        self.stop()
        leaf = self.conversation.leaf
        question = self.conversation.add("user", text, parent=leaf, turn=turn, images=list(images))
        return self._start(question, client, fields)

    def edit(self, question: Message, text: str, client: ChatClient, *, images: Sequence[str] = ()) -> Message:
        """Ask it anew in other words, as a branch beside the first; its images stay, `images` come to them."""
        self.stop()
        parent = self.conversation.parent(question)
        shown = [*question.images, *images]
        fresh = self.conversation.add("user", text, parent=parent, turn=question.turn, images=shown)
        return self._start(fresh, client)

    def regenerate(self, client: ChatClient, answer: Message | None = None) -> Message | None:
        """Another answer to the question of `answer` (the last one), as a branch; None when nothing was asked."""
        self.stop()
        leaf = answer or self.conversation.leaf
        question = leaf if leaf is None or leaf.role == "user" else self.conversation.parent(leaf)
        return None if question is None else self._start(question, client)

    def step(self, message: Message, by: int) -> None:
        """Show another branch."""
        shown = self.conversation.step(message, by)
        if self.log is not None:
            self.log.moved(self, self.conversation.leaf or shown)

    def stop(self) -> bool:
        """Hang up; what has come is kept and marked. False when nothing was on its way."""
        if self.stream is None:
            return False
        self.stream.stop()
        self.drain()
        return True

    def fail(self, error: XinError) -> None:
        if self.stream is not None:
            self.stream.fail(error)
            self.drain()

    def drain(self) -> bool:
        """Move what has arrived into the answer; True when there is something new to draw."""
        stream, answer = self.stream, self.answer
        if stream is None or answer is None:
            return False
        text, reasoning = stream.drain()
        answer.text += text
        answer.reasoning += reasoning
        _note_figures(answer, stream)
        if self.log is not None and (text or reasoning):
            self.log.grew(answer, text, reasoning)
        if stream.state == "streaming":
            return bool(text or reasoning)
        self._close(stream, answer)
        return True

    def figures(self) -> Figures:
        """Of the answer on its way, else of the last one."""
        stream, answer = self.stream, self.answer if self.stream else self._last_answer()
        if answer is None:
            return Figures(live=False, exact=True)
        return Figures(
            live=stream is not None,
            exact=answer.counted,
            ttft_ms=answer.ttft_ms,
            waited_ms=stream.elapsed_ms if stream else 0.0,
            tokens_per_second=answer.tokens_per_second,
            tokens=answer.completion_tokens,
            context_tokens=self._context(answer),
        )

    def _start(self, question: Message, client: ChatClient, fields: Mapping[str, Any] | None = None) -> Message:
        messages = self.conversation.wire(question, self.system)
        self.answer = self.conversation.add(
            "assistant", parent=question, turn=question.turn, model=self.model, state="streaming"
        )
        self.stream = AnswerStream(self.model)
        self.stream.on_news = self.on_news
        self.stream.start(client, messages, {**self.sampling, **(fields or {})})
        return self.answer

    def _close(self, stream: AnswerStream, answer: Message) -> None:
        answer.state = "done" if stream.state == "streaming" else stream.state
        answer.finish_reason = stream.finish_reason
        if stream.error is not None:
            answer.error, answer.hint = stream.error.message, stream.error.hint
        self.stream = None
        if self.log is not None:
            self.log.ended(answer)

    def _last_answer(self) -> Message | None:
        return next((one for one in reversed(self.conversation.path()) if one.role == "assistant"), None)

    def _context(self, answer: Message) -> int:
        """Tokens of the window in use; where the node has not told the prompt's, from the turn before and letters."""
        if answer.prompt_tokens:
            return answer.prompt_tokens + answer.completion_tokens
        question = self.conversation.parent(answer)
        before = self.conversation.parent(question) if question else None
        carried = before.prompt_tokens + before.completion_tokens if before else len(self.system) // 4
        return carried + len(question.text if question else "") // 4 + answer.completion_tokens

    def _record(self, message: Message) -> int:
        if self.log is not None:
            return self.log.added(self, message)
        return len(self.conversation) + 1


def _note_figures(answer: Message, stream: AnswerStream) -> None:
    answer.ttft_ms = stream.ttft_ms
    answer.thinking_ms = stream.thinking_ms
    answer.tokens_per_second = stream.tokens_per_second
    answer.completion_tokens = stream.tokens
    answer.reasoning_tokens = stream.reasoning_chunks
    answer.counted = stream.exact
    answer.prompt_tokens = stream.usage.prompt_tokens if stream.usage else 0
