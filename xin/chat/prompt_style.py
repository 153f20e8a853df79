"""Named prompt styles: how chat models from before chat templates want their turns written.

The styles and their separators are those of Xinference 0.2; separators follow the speaker, not the position, so that
two user messages in a row stay right.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from xin.chat.messages import Message, checked, with_text
from xin.errors import BadRequest, LoadFailed

_SYSTEM_SLOT = "{system_message}"
_LLAMA2_SYSTEM = re.compile(r"(?<=<<SYS>>\n).*(?=\n<</SYS>>)", re.DOTALL)


class PromptStyle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One style. `roles` are the names of user and assistant; `intra` ends a user's turn, `inter` an assistant's."""

    style_name: str
    system_prompt: str = ""
    roles: tuple[str, str] = ("", "")
    intra_message_sep: str = ""
    inter_message_sep: str = ""
    stop: list[str] | None = None
    stop_token_ids: list[int] | None = None

    @classmethod
    def of(cls, described: dict[str, Any]) -> PromptStyle:
        """From a catalogue's `prompt_style`; LoadFailed when it is not one."""
        try:
            style = msgspec.convert(described, cls)
        except msgspec.ValidationError as exc:
            raise LoadFailed(f"the prompt style is wrong: {exc}") from exc
        if style.style_name not in _WRITERS:
            raise LoadFailed(f"unknown prompt style {style.style_name!r}", f"known: {', '.join(sorted(_WRITERS))}")
        return style

    @property
    def stop_strings(self) -> list[str]:
        """What ends an answer: the style's own stops, and the mark that closes a turn where the style has one."""
        marks = {"QWEN": "<|im_end|>", "CHATML": self.intra_message_sep}
        mark = marks.get(self.style_name, "")
        return [*(self.stop or []), *([mark] if mark and mark not in (self.stop or []) else [])]

    def mentions(self, name: str) -> bool:
        """As ChatTemplate's: a style has no variables."""
        return False

    def render(self, messages: list[Message], /, *, add_generation_prompt: bool = True, **_variables: Any) -> str:
        """The prompt's text; a system message takes the place of the style's own. It may begin with its own BOS."""
        system, turns = self._split(with_text(checked(messages)))
        write = _WRITERS[self.style_name]
        return write(self, self._system(system), [*turns, (1, None)] if add_generation_prompt else turns)

    def _split(self, messages: list[Message]) -> tuple[str | None, list[Turn]]:
        systems: list[str] = []
        turns: list[Turn] = []
        for i, message in enumerate(messages):
            role, text = message["role"], message["content"]
            if role in ("system", "developer"):
                systems.append(text)
            elif role in ("user", "assistant"):
                turns.append((int(role == "assistant"), text))
            else:
                raise BadRequest(f"this model's prompt style has no role {role!r}", param=f"messages[{i}].role")
        return "\n".join(systems) if systems else None, turns

    def _system(self, text: str | None) -> str:
        if _SYSTEM_SLOT in self.system_prompt:
            return self.system_prompt.replace(_SYSTEM_SLOT, text or "")
        if text is None:
            return self.system_prompt
        if self.style_name == "LLAMA2":
            return _LLAMA2_SYSTEM.sub(lambda _: text, self.system_prompt)
        return text

    def _sep(self, speaker: int) -> str:
        return self.inter_message_sep if speaker else self.intra_message_sep


Turn = tuple[int, str | None]  # 0 the user, 1 the assistant; None is the answer to come
Writer = Callable[[PromptStyle, str, list[Turn]], str]


def _add_colon_single(style: PromptStyle, system: str, turns: list[Turn]) -> str:
    return _colons(style, system, turns, (style.intra_message_sep, style.intra_message_sep), ":")


def _add_colon_single_cot(style: PromptStyle, system: str, turns: list[Turn]) -> str:
    seps = (style.intra_message_sep, style.intra_message_sep)
    return _colons(style, system, turns, seps, ": Let's think step by step.")


def _add_colon_two(style: PromptStyle, system: str, turns: list[Turn]) -> str:
    return _colons(style, system, turns, (style.intra_message_sep, style.inter_message_sep), ":")


def _colons(style: PromptStyle, system: str, turns: list[Turn], seps: tuple[str, str], opening: str) -> str:
    text = system + style.intra_message_sep
    for who, said in turns:
        text += style.roles[who] + (opening if said is None else f": {said}{seps[who]}")
    return text


def _no_colon_two(style: PromptStyle, system: str, turns: list[Turn]) -> str:
    return system + "".join(style.roles[who] + ("" if said is None else said + style._sep(who)) for who, said in turns)


def _llama2(style: PromptStyle, system: str, turns: list[Turn]) -> str:
    """The system text opens the first user turn, so that turn has no role of its own."""
    text = system
    for i, (who, said) in enumerate(turns):
        if said is None:
            text += style.roles[who]
        elif i == 0 and who == 0:
            text += said + style._sep(0)
        else:
            text += f"{style.roles[who]} {said}{style._sep(who)}"
    return text


def _falcon(style: PromptStyle, system: str, turns: list[Turn]) -> str:
    text = f"{system}\n\n" if system else ""
    for who, said in turns:
        text += style.roles[who] + (":" if said is None else f": {_without_blank_lines(said)}\n\n")
    return text


def _without_blank_lines(text: str) -> str:
    return re.sub(r"\n{2,}", "\n", text.replace("\r\n", "\n"))


def _qwen(style: PromptStyle, system: str, turns: list[Turn]) -> str:
    text = f"<|im_start|>system\n{system}<|im_end|>"
    for who, said in turns:
        text += f"{style.intra_message_sep}<|im_start|>{style.roles[who]}\n"
        text += "" if said is None else f"{said}<|im_end|>"
    return text


def _chatml(style: PromptStyle, system: str, turns: list[Turn]) -> str:
    end = f"{style.intra_message_sep}\n"
    text = system + end if system else ""
    for who, said in turns:
        text += f"{style.roles[who]}\n" + ("" if said is None else said + end)
    return text


def _internlm(style: PromptStyle, system: str, turns: list[Turn]) -> str:
    text = f"{system}\n" if system else ""
    for i, (who, said) in enumerate(turns):
        begins = "<s>" if who == 0 or i == 0 else ""
        text += f"{begins}{style.roles[who]}:" + ("" if said is None else said + style._sep(who))
    return text


def _chatglm(style: PromptStyle, system: str, turns: list[Turn]) -> str:
    """Rounds count from 0 for ChatGLM, whose separator is one newline, and from 1 for ChatGLM2."""
    sep = style.intra_message_sep
    text = system + sep if system else ""
    number = 1 if sep == "\n\n" else 0
    for i, (who, said) in enumerate(turns):
        if who == 0 or i == 0:
            text += f"[Round {number}]{sep}"
            number += 1
        text += f"{style.roles[who]}：" + ("" if said is None else said + sep)
    return text


_WRITERS: dict[str, Writer] = {
    "ADD_COLON_SINGLE": _add_colon_single,
    "ADD_COLON_SINGLE_COT": _add_colon_single_cot,
    "ADD_COLON_TWO": _add_colon_two,
    "NO_COLON_TWO": _no_colon_two,
    "LLAMA2": _llama2,
    "FALCON": _falcon,
    "QWEN": _qwen,
    "CHATML": _chatml,
    "INTERNLM": _internlm,
    "CHATGLM": _chatglm,
}
