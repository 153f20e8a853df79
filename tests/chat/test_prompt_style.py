"""PromptStyle: each named style against strings written by hand from the models' own formats."""

from __future__ import annotations

from typing import Any

import pytest

from xin.chat.prompt_style import PromptStyle
from xin.errors import BadRequest, LoadFailed, UnsupportedParameter

TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


def style(name: str, **fields: Any) -> PromptStyle:
    return PromptStyle.of({"style_name": name, "stop": None, "stop_token_ids": None, **fields})


BAICHUAN = style(
    "NO_COLON_TWO", roles=[" <reserved_102> ", " <reserved_103> "], inter_message_sep="</s>", stop_token_ids=[2, 195]
)
CHATGLM = style("CHATGLM", roles=["问", "答"], intra_message_sep="\n")
CHATGLM2 = style("CHATGLM", roles=["问", "答"], intra_message_sep="\n\n")
FALCON = style(
    "FALCON",
    roles=["User", "Assistant"],
    intra_message_sep="\n",
    inter_message_sep="<|endoftext|>",
    stop=["\nUser"],
    stop_token_ids=list(range(12)),
)
INTERNLM = style(
    "INTERNLM",
    roles=["<|User|>", "<|Bot|>"],
    intra_message_sep="<eoh>\n",
    inter_message_sep="<eoa>\n",
    stop=["<eoa>"],
    stop_token_ids=[1, 103028],
)
LLAMA2 = style(
    "LLAMA2",
    system_prompt="<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n",
    roles=["[INST]", "[/INST]"],
    intra_message_sep=" ",
    inter_message_sep=" </s><s>",
    stop_token_ids=[2],
)
ORCA = style("ADD_COLON_SINGLE", system_prompt="Be kind.", roles=["User", "Response"], intra_message_sep="\n\n### ")
QWEN = style(
    "QWEN", system_prompt="Be kind.", roles=["user", "assistant"], intra_message_sep="\n", stop_token_ids=[151643]
)
STARCHAT = style(
    "CHATML",
    system_prompt="<|system|>\n{system_message}",
    roles=["<|user|>", "<|assistant|>"],
    intra_message_sep="<|end|>",
    stop_token_ids=[0, 49155],
)
VICUNA = style(
    "ADD_COLON_TWO",
    system_prompt="A chat.",
    roles=["USER", "ASSISTANT"],
    intra_message_sep=" ",
    inter_message_sep="</s>",
)
WIZARDMATH = style(
    "ADD_COLON_SINGLE_COT",
    system_prompt="Below is an instruction.",
    roles=["Instruction", "Response"],
    intra_message_sep="\n\n### ",
)


@pytest.mark.parametrize(
    ("described", "prompt"),
    [
        (BAICHUAN, " <reserved_102> Hi <reserved_103> Hello</s> <reserved_102> Bye <reserved_103> "),
        (CHATGLM, "[Round 0]\n问：Hi\n答：Hello\n[Round 1]\n问：Bye\n答："),
        (CHATGLM2, "[Round 1]\n\n问：Hi\n\n答：Hello\n\n[Round 2]\n\n问：Bye\n\n答："),
        (FALCON, "User: Hi\n\nAssistant: Hello\n\nUser: Bye\n\nAssistant:"),
        (INTERNLM, "<s><|User|>:Hi<eoh>\n<|Bot|>:Hello<eoa>\n<s><|User|>:Bye<eoh>\n<|Bot|>:"),
        (LLAMA2, "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]"),
        (ORCA, "Be kind.\n\n### User: Hi\n\n### Response: Hello\n\n### User: Bye\n\n### Response:"),
        (
            QWEN,
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
            "Hello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            STARCHAT,
            "<|system|>\n<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n",
        ),
        (VICUNA, "A chat. USER: Hi ASSISTANT: Hello</s>USER: Bye ASSISTANT:"),
        (
            WIZARDMATH,
            "Below is an instruction.\n\n### Instruction: Hi\n\n### Response: Hello\n\n### Instruction: Bye"
            "\n\n### Response: Let's think step by step.",
        ),
    ],
    ids=lambda value: value.style_name if isinstance(value, PromptStyle) else "",
)
def test_a_conversation(described: PromptStyle, prompt: str) -> None:
    assert described.render(TALK) == prompt


@pytest.mark.parametrize(
    ("described", "prompt"),
    [
        (ORCA, "Speak French.\n\n### User: Hi\n\n### Response:"),
        (VICUNA, "Speak French. USER: Hi ASSISTANT:"),
        (LLAMA2, "<s>[INST] <<SYS>>\nSpeak French.\n<</SYS>>\n\nHi [/INST]"),
        (STARCHAT, "<|system|>\nSpeak French.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n"),
        (FALCON, "Speak French.\n\nUser: Hi\n\nAssistant:"),
        (CHATGLM, "Speak French.\n[Round 0]\n问：Hi\n答："),
        (INTERNLM, "Speak French.\n<s><|User|>:Hi<eoh>\n<|Bot|>:"),
        (
            QWEN,
            "<|im_start|>system\nSpeak French.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
    ids=lambda value: value.style_name if isinstance(value, PromptStyle) else "",
)
@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_replaces_the_styles_own(described: PromptStyle, prompt: str, role: str) -> None:
    assert described.render([{"role": role, "content": "Speak French."}, *TALK[:1]]) == prompt


def test_two_questions_in_a_row_keep_their_separators() -> None:
    assert VICUNA.render([TALK[0], TALK[2]]) == "A chat. USER: Hi USER: Bye ASSISTANT:"


def test_falcon_collapses_blank_lines() -> None:
    said = [{"role": "user", "content": "a\r\n\r\nb\n\n\nc"}]
    assert FALCON.render(said) == "User: a\nb\nc\n\nAssistant:"


def test_without_the_generation_prompt() -> None:
    assert VICUNA.render(TALK[:2], add_generation_prompt=False) == "A chat. USER: Hi ASSISTANT: Hello</s>"


def test_stops() -> None:
    assert FALCON.stop_strings == ["\nUser"]
    assert INTERNLM.stop_strings == ["<eoa>"]
    assert QWEN.stop_strings == ["<|im_end|>"]
    assert STARCHAT.stop_strings == ["<|end|>"]
    assert VICUNA.stop_strings == []
    assert BAICHUAN.stop_token_ids == [2, 195]


def test_parts_and_roles_as_with_templates() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert VICUNA.render([{"role": "user", "content": parts}]) == "A chat. USER: a\nb ASSISTANT:"
    with pytest.raises(UnsupportedParameter) as caught:
        VICUNA.render([{"role": "user", "content": [{"type": "image_url"}]}])
    assert caught.value.param == "messages[0].content[0].type"
    with pytest.raises(BadRequest, match="tool") as refused:
        VICUNA.render([*TALK, {"role": "tool", "content": "1"}])
    assert refused.value.param == "messages[3].role"


@pytest.mark.parametrize(
    "described",
    [{"style_name": "NOPE"}, {"style_name": "QWEN", "roles": ["a"]}, {}, {"style_name": "QWEN", "sep": "x"}],
)
def test_a_style_that_is_none(described: dict[str, Any]) -> None:
    with pytest.raises(LoadFailed, match="prompt style"):
        PromptStyle.of(described)
