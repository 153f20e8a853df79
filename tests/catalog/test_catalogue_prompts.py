"""Three turns in every family of 2023 that has a prompt style; the prompts are written out by hand."""

from __future__ import annotations

import pytest

from xin.catalog.spec import built_in_families
from xin.chat.prompt_style import PromptStyle

TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "A model"},
    {"role": "user", "content": "Bye"},
]
VICUNA = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the human's questions. USER: Hi ASSISTANT: Hello</s>USER: Who are you? ASSISTANT: A model"
    "</s>USER: Bye ASSISTANT:"
)
CHATGLM2 = (
    "[Round 1]\n\n问：Hi\n\n答：Hello\n\n[Round 2]\n\n问：Who are you?\n\n答：A model\n\n[Round 3]\n\n问：Bye\n\n答："
)
INTERNLM = (
    "<s><|User|>:Hi<eoh>\n<|Bot|>:Hello<eoa>\n<s><|User|>:Who are you?<eoh>\n<|Bot|>:A model<eoa>\n"
    "<s><|User|>:Bye<eoh>\n<|Bot|>:"
)
PROMPTS = {
    "baichuan-chat": (
        " <reserved_102> Hi <reserved_103> Hello</s> <reserved_102> Who are you? <reserved_103> A model</s>"
        " <reserved_102> Bye <reserved_103> "
    ),
    "chatglm": "[Round 0]\n问：Hi\n答：Hello\n[Round 1]\n问：Who are you?\n答：A model\n[Round 2]\n问：Bye\n答：",
    "chatglm2": CHATGLM2,
    "chatglm2-32k": CHATGLM2,
    "falcon-instruct": (
        "User: Hi\n\nAssistant: Hello\n\nUser: Who are you?\n\nAssistant: A model\n\nUser: Bye\n\nAssistant:"
    ),
    "internlm-chat": INTERNLM,
    "internlm-chat-8k": INTERNLM,
    "llama-2-chat": (
        "<s>[INST] <<SYS>>\nYou are a helpful AI assistant.\n<</SYS>>\n\nHi [/INST] Hello </s><s>"
        "[INST] Who are you? [/INST] A model </s><s>[INST] Bye [/INST]"
    ),
    "orca": (
        "You are an AI assistant that follows instruction extremely well. Help as much as you can.\n\n"
        "### User: Hi\n\n### Response: Hello\n\n### User: Who are you?\n\n### Response: A model\n\n### User: Bye\n\n"
        "### Response:"
    ),
    "qwen-chat": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n"
        "<|im_start|>assistant\nA model<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    ),
    "starchat-beta": (
        "<system>\n<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nWho are you?<|end|>\n"
        "<|assistant|>\nA model<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n"
    ),
    "vicuna-v1.3": VICUNA,
    "vicuna-v1.5": VICUNA,
    "vicuna-v1.5-16k": VICUNA,
    "wizardlm-v1.0": (
        "You are a helpful AI assistant.\nUSER: Hi\nASSISTANT: Hello\nUSER: Who are you?\nASSISTANT: A model\n"
        "USER: Bye\nASSISTANT:"
    ),
    "wizardmath-v1.0": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction: Hi\n\n### Response: Hello\n\n### Instruction: Who are you?\n\n### Response: A model\n\n"
        "### Instruction: Bye\n\n### Response: Let's think step by step."
    ),
}
# Token ids are those that end a turn in the model's own vocabulary.
STOPS = {
    "baichuan-chat": ([], [2, 195]),
    "falcon-instruct": (["\nUser"], list(range(12))),
    "internlm-chat": (["<eoa>"], [1, 103028]),
    "internlm-chat-8k": (["<eoa>"], [1, 103028]),
    "llama-2-chat": ([], [2]),
    "qwen-chat": (["<|im_end|>"], [151643]),
    "starchat-beta": (["<|end|>"], [0, 49155]),
}


def test_no_style_is_left_out():
    assert {name for name, family in built_in_families().items() if family.prompt_style} == set(PROMPTS)


@pytest.mark.parametrize("name", PROMPTS)
def test_three_turns(name: str):
    described = built_in_families()[name].prompt_style
    assert described is not None
    style = PromptStyle.of(described)
    assert style.render(TALK) == PROMPTS[name]
    assert (style.stop_strings, style.stop_token_ids or []) == STOPS.get(name, ([], []))


def test_a_system_message_takes_the_place_that_starchat_keeps_for_it():
    style = PromptStyle.of(built_in_families()["starchat-beta"].prompt_style or {})
    said = [{"role": "system", "content": "Be brief."}, *TALK[:1]]
    assert style.render(said) == "<system>Be brief.\n<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n"
