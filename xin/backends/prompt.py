"""Chat messages to prompt ids: the template that came with the weights, else the catalogue's prompt style."""

from __future__ import annotations

from typing import Any

from xin.backends.base import Weights
from xin.backends.picture import with_markers
from xin.backends.vocabulary import Vocabulary
from xin.chat.prompt_style import PromptStyle
from xin.chat.template import ChatTemplate
from xin.chat.tool_prompt import format_of, without_tools
from xin.errors import UnsupportedParameter

_THINKING = ("enable_thinking", "thinking")  # two names of one switch; clients send both


class Prompt:
    """Renders on the preparer thread. `source` is a Jinja template."""

    def __init__(self, vocabulary: Vocabulary, weights: Weights, source: str | None) -> None:
        self._vocabulary = vocabulary
        self._name = weights.model_name or "this model"
        self._sibling = weights.chat_sibling
        self._bos = self._piece(self._vocabulary.bos)
        self._template: ChatTemplate | PromptStyle | None = None
        if source:
            self._template = ChatTemplate(source, bos_token=self._bos, eos_token=self._piece(self._vocabulary.eos))
        elif weights.prompt_style:
            self._template = PromptStyle.of(weights.prompt_style)

    @property
    def can_chat(self) -> bool:
        return self._template is not None

    @property
    def tool_format(self) -> str:
        """As Engine's. A template that knows no tools is told of them in Hermes' words."""
        knows = isinstance(self._template, ChatTemplate) and self._template.mentions("tools")
        return format_of(self._template.source) if isinstance(self._template, ChatTemplate) and knows else "hermes"

    def render(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> list[int]:
        text, add_special = self.text(messages, template_kwargs)
        return self._vocabulary.tokenize(text, add_special, parse_special=True)

    def text(
        self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any], *, marker: str | None = None
    ) -> tuple[str, bool]:
        """The prompt before it is tokenised, and whether the tokenizer is to add its BOS and the like.

        `marker` stands in the place of each image, where the template has no words of its own for images.
        """
        if self._template is None:
            sibling = f"chat with {self._sibling} instead, or " if self._sibling else ""
            raise UnsupportedParameter(
                f"{self._name} is a base model: it has no chat template",
                f"{sibling}use /v1/completions",
                param="messages",
            )
        if not self._template.mentions("tools"):
            template_kwargs = dict(template_kwargs)
            messages = without_tools(messages, template_kwargs.pop("tools", None))
        for name, value in template_kwargs.items():
            if not (self._template.mentions(name) or _asks_for_nothing(name, value, self._template)):
                raise UnsupportedParameter(
                    f"{name}: the chat template of {self._name} does not know it", f"leave {name} out", param=name
                )
        if marker is not None and isinstance(self._template, ChatTemplate) and self._template.shows_images:
            text = self._template.render(messages, images=True, **template_kwargs)
        else:
            given = messages if marker is None else with_markers(messages, marker)
            text = self._template.render(given, **template_kwargs)
        # A template that writes the BOS itself must not get a second one from the tokenizer.
        return text, not (self._bos and text.startswith(self._bos))

    def _piece(self, token: int) -> str:
        return self._vocabulary.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""


def _asks_for_nothing(name: str, value: object, template: ChatTemplate | PromptStyle) -> bool:
    """A model that cannot think need not be told to stop; one that can knows the switch by either name."""
    return name in _THINKING and (value is False or any(template.mentions(other) for other in _THINKING))
