"""ChatGLM's first family, and files of format version 1, as they were written in 2023."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from tiny_chatglm import FAMILIES, FFN, HEADS, HIDDEN, KV_HEADS, LAYERS, REPLY, TYPES, WINDOW, write_tensor, write_tiny
from tiny_chatglm_first import write_first

from xin.backends.base import Request, Weights
from xin.backends.chatglm_cpp.engine import ChatGlmEngine
from xin.errors import LoadFailed
from xin.worker.frames import Sampling

pytestmark = pytest.mark.timeout(400)
QUESTION = [{"role": "user", "content": "Hello, what is\tthe 小模型?\n\n  Tell  me."}]
CONVERSATION = [*QUESTION, {"role": "assistant", "content": "你好"}, {"role": "user", "content": "the\n我是"}]


def opened(path: Path) -> ChatGlmEngine:
    return ChatGlmEngine.load(Weights([str(path)]), ChatGlmEngine.Options(), lambda fraction, stage: None)


def answer(engine: ChatGlmEngine, tokens: list[int], max_tokens: int) -> bytes:
    engine.submit(Request(1, tokens, Sampling(temperature=0.0), max_tokens))
    said = b""
    while engine.busy():
        said += b"".join(output.piece for output in engine.step())
    return said


@pytest.mark.parametrize("version", [1, 2])
def test_tokens_are_those_of_the_published_formula(tmp_path: Path, version: int):
    tiny = write_first(tmp_path / "m.bin", version=version)
    engine = opened(tmp_path / "m.bin")
    assert engine.describe().description == "ChatGLM, f32"
    for messages in (QUESTION, CONVERSATION)[:version]:  # the second is not read from where the first ended
        prompt = engine.render(messages, {})
        found: list[int] = []
        for _ in range(6):
            token, gap = tiny.next([*prompt, *found], len(prompt))
            assert gap > 0.05, "too near to a tie to compare: take another seed"
            found.append(token)
        assert len(set(found)) > 3 and tiny.eos not in found
        assert answer(engine, prompt, 6) == engine.detokenize(found)


@pytest.mark.parametrize("dtype", ["f16", "q8_0", "q4_0"])
def test_every_type_runs(tmp_path: Path, dtype: str):
    write_first(tmp_path / "m.bin", dtype)
    engine = opened(tmp_path / "m.bin")
    assert answer(engine, engine.render(QUESTION, {}), 2)


def test_a_chat_is_written_as_the_library_writes_it(tmp_path: Path):
    from chatglm_cpp import ChatMessage, Pipeline

    write_first(tmp_path / "m.bin")
    engine, tokenizer = opened(tmp_path / "m.bin"), Pipeline(str(tmp_path / "m.bin")).tokenizer
    for messages in (QUESTION, CONVERSATION):
        said = [ChatMessage(message["role"], message["content"]) for message in messages]
        assert engine.render(messages, {}) == tokenizer.apply_chat_template(said, 4096)
    system: dict[str, Any] = {"role": "system", "content": "Be brief."}
    assert b"Be brief.\n[Round 0]\n" in engine.detokenize(engine.render([system, *QUESTION], {}))


def test_white_space_comes_back_as_it_was(tmp_path: Path):
    write_first(tmp_path / "m.bin")
    engine = opened(tmp_path / "m.bin")
    for said in ("a  b   c\n\td", " x", "  x", "", "Grüße, 世界 👩‍🚀!"):
        assert engine.detokenize(engine.tokenize(said, False, True)).decode() == said
        assert engine.detokenize(engine.tokenize(said, True, True)).decode() == said  # the marks are no text


def test_a_cut_file_is_refused(tmp_path: Path):
    write_first(tmp_path / "whole.bin", version=1)
    whole = (tmp_path / "whole.bin").read_bytes()
    for size in [*range(0, 64, 3), *range(64, len(whole), len(whole) // 30), len(whole) - 1]:
        (tmp_path / "m.bin").write_bytes(whole[:size])
        with pytest.raises(LoadFailed):
            opened(tmp_path / "m.bin")


@pytest.mark.parametrize("family", ["chatglm2", "chatglm3"])
def test_the_first_version_of_later_families(tmp_path: Path, family: str):
    """The same tensors behind another head. Its offsets differ, so the tensors are written anew."""
    tiny = write_tiny(tmp_path / "two.bin", family)
    two = (tmp_path / "two.bin").read_bytes()
    (size,) = struct.unpack_from("<i", two, 64)
    sizes = (tiny.vocabulary, HIDDEN, HEADS, LAYERS, FFN, WINDOW)
    head = struct.pack("<12i", TYPES["f16"], *sizes, 1, tiny.eos, 0, -1, KV_HEADS)
    with (tmp_path / "m.bin").open("wb") as file:
        file.write(b"ggml" + struct.pack("<2i", FAMILIES[family], 1) + head + two[64 : 68 + size])
        for name, (values, kind) in tiny.tensors.items():
            write_tensor(file, name, values, kind)
    engine = opened(tmp_path / "m.bin")
    assert answer(engine, engine.render(QUESTION, {}), 64).decode() == REPLY
