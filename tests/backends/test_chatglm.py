"""The chatglm.cpp engine on tiny files of ChatGLM 2, 3 and 4: exact answers, and what it does with wrong files."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
from tiny_chatglm import FAMILIES, REPLY, TYPES, WINDOW, Tiny, write_tiny
from worker_process import WorkerProcess

from xin.backends.base import Output, Request, Weights
from xin.backends.chatglm_cpp import model_file, reader
from xin.backends.chatglm_cpp.engine import ChatGlmEngine
from xin.errors import BadRequest, LoadFailed, UnsupportedParameter
from xin.worker.frames import Accepted, Constraint, Done, Failed, Generate, Sampling

# The library's threads wait for one another by spinning: beside anything else that runs, a token may take a second.
pytestmark = pytest.mark.timeout(400)
SLOW = pytest.mark.slow
GREEDY = Sampling(temperature=0.0)
QUESTION = [{"role": "user", "content": "Hello, what is the 小模型?"}]
CONVERSATION = [*QUESTION, {"role": "assistant", "content": "你好"}, {"role": "user", "content": "the\n我是"}]


def opened(path: Path, family: str = "chatglm2", **options: Any) -> ChatGlmEngine:
    if not path.exists():
        write_tiny(path, family)
    return ChatGlmEngine.load(Weights([str(path)]), ChatGlmEngine.Options(**options), lambda fraction, stage: None)


def run(engine: ChatGlmEngine, tokens: list[int], *, sampling: Sampling = GREEDY, **fields: Any) -> list[Output]:
    engine.submit(Request(1, tokens, sampling, **{"max_tokens": 64, **fields}))
    outputs: list[Output] = []
    while engine.busy():
        outputs += engine.step()
    return outputs


def text(outputs: list[Output]) -> str:
    return b"".join(output.piece for output in outputs).decode()


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        pytest.param(family, dtype, marks=[] if dtype == "f16" or (family, dtype) == ("chatglm2", "q4_0") else SLOW)
        for family in FAMILIES
        for dtype in TYPES
    ],
)
def test_the_one_answer_of_a_chain(tmp_path: Path, family: str, dtype: str):
    write_tiny(tmp_path / "m.bin", family, dtype)
    engine = opened(tmp_path / "m.bin")
    outputs = run(engine, engine.render(CONVERSATION, {}))
    assert text(outputs) == REPLY
    assert outputs[-1].finish_reason == "stop"
    assert sum(output.tokens for output in outputs) == len(REPLY) - 1 + 4  # the rocket is a token a byte
    assert engine.describe().description == f"ChatGLM{family[-1]}, {dtype}"


@pytest.mark.parametrize(
    ("family", "at_once"),
    [
        ("chatglm2", 2048),
        ("chatglm3", 16),
        pytest.param("chatglm4", 16, marks=SLOW),
        pytest.param("chatglm2", 16, marks=SLOW),
        pytest.param("chatglm3", 2048, marks=SLOW),
        ("chatglm4", 2048),
    ],
)
def test_tokens_are_those_of_the_published_formula(
    tmp_path: Path, family: str, at_once: int, monkeypatch: pytest.MonkeyPatch
):
    """Also where a prompt is read in pieces, and where the next turn goes on behind what is held."""
    monkeypatch.setattr(reader, "_AT_ONCE", at_once)
    tiny = write_tiny(tmp_path / "m.bin", family, "f32", "random")
    engine = opened(tmp_path / "m.bin")
    tokens = engine.render(QUESTION, {})
    assert len(tokens) > 16
    expected, outputs = following(tiny, tokens, 8), run(engine, tokens, max_tokens=8)
    assert text(outputs) == engine.detokenize(expected).decode()
    assert outputs[-1].cached_tokens == 0 and outputs[-1].finish_reason == "length"
    longer = [*tokens, *expected, *tokens[-4:]]
    outputs = run(engine, longer, max_tokens=4)
    assert text(outputs) == engine.detokenize(following(tiny, longer, 4)).decode()
    assert outputs[-1].cached_tokens == len(tokens) + 7  # all that was computed: the last token was not
    other = tokens[-6:]
    assert text(run(engine, other, max_tokens=4)) == engine.detokenize(following(tiny, other, 4)).decode()


def following(tiny: Tiny, tokens: list[int], count: int) -> list[int]:
    found: list[int] = []
    for _ in range(count):
        token, gap = tiny.next([*tokens, *found])
        assert gap > 5e-4, "too near to a tie to compare: take another seed"
        found.append(token)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_chat_is_written_as_the_library_writes_it(tmp_path: Path, family: str):
    from chatglm_cpp import ChatMessage, Pipeline

    engine = opened(tmp_path / "m.bin", family)
    tokenizer = Pipeline(str(tmp_path / "m.bin")).tokenizer
    said = [ChatMessage(message["role"], message["content"]) for message in CONVERSATION]
    assert engine.render(CONVERSATION, {}) == tokenizer.apply_chat_template(said, 4096)


def test_a_system_text_reaches_every_family(tmp_path: Path):
    system = {"role": "system", "content": "Be the best."}
    for family in FAMILIES:
        engine = opened(tmp_path / f"{family}.bin", family)
        assert b"Be the best." in engine.detokenize(engine.render([system, *QUESTION], {}))
        assert b"Be the best." not in engine.detokenize(engine.render(QUESTION, {}))


def test_what_a_form_has_no_place_for_is_refused(tmp_path: Path):
    for family in FAMILIES:
        engine = opened(tmp_path / f"{family}.bin", family)
        with pytest.raises(BadRequest) as caught:
            engine.render([{"role": "narrator", "content": "x"}], {})
        assert caught.value.param == "messages[0].role"
        with pytest.raises(UnsupportedParameter) as caught:
            engine.render(QUESTION, {"enable_thinking": True})
        assert caught.value.param == "enable_thinking"


@pytest.mark.parametrize("family", FAMILIES)
def test_text_that_looks_like_a_special_token_is_text(tmp_path: Path, family: str):
    engine = opened(tmp_path / "m.bin", family)
    for said in ("<|assistant|> [gMASK] </s>", "  two  spaces\nand\ttabs ", "Grüße, 世界 👩‍🚀!", ""):
        tokens = engine.tokenize(said, False, True)
        assert engine.detokenize(tokens).decode() == said
        assert engine.tokenize(said, True, True)[2:] == tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": Sampling(seed=1)}, "seed"),
        ({"sampling": Sampling(min_p=0.1)}, "min_p"),
        ({"sampling": Sampling(typical_p=0.9)}, "typical_p"),
        ({"sampling": Sampling(presence_penalty=0.5)}, "presence_penalty"),
        ({"sampling": Sampling(frequency_penalty=0.5)}, "frequency_penalty"),
        ({"sampling": Sampling(logit_bias={5: 1.0})}, "logit_bias"),
        ({"sampling": Sampling(ignore_eos=True)}, "ignore_eos"),
        ({"sampling": Sampling(repeat_penalty=1.1, repeat_last_n=32)}, "repeat_last_n"),
        ({"logprobs": 0}, "logprobs"),
        ({"logprobs": 3, "prompt_logprobs": True}, "logprobs"),
    ],
)
def test_what_the_library_cannot_do_is_refused_by_name(tmp_path: Path, fields: dict[str, Any], param: str):
    engine = opened(tmp_path / "m.bin")
    with pytest.raises(UnsupportedParameter) as caught:
        run(engine, engine.render(QUESTION, {}), **fields)
    assert caught.value.param == param and param in caught.value.message
    assert not engine.busy()


def test_constraints_embeddings_and_infill_are_refused(tmp_path: Path):
    engine = opened(tmp_path / "m.bin")
    for call, param in (
        (lambda: engine.compile(Constraint("json_object")), "response_format"),
        (lambda: engine.embed([[5]]), "model"),
        (lambda: engine.infill("a", "b"), "suffix"),
    ):
        with pytest.raises(UnsupportedParameter) as caught:
            call()
        assert caught.value.param == param


def test_sampling_reaches_the_library(tmp_path: Path):
    """A chain's likeliest token is so far ahead that only heat finds another one."""
    engine = opened(tmp_path / "m.bin")
    tokens = engine.render(QUESTION, {})
    for calm in (Sampling(temperature=5.0, top_k=1), Sampling(temperature=5.0, top_p=0.0), Sampling(temperature=0.1)):
        assert text(run(engine, tokens, sampling=calm, max_tokens=4)) == REPLY[:4]
    hot = [run(engine, tokens, sampling=Sampling(temperature=100.0), max_tokens=8) for _ in range(2)]
    assert [one.piece for one in hot[0]] != [one.piece for one in hot[1]]
    penalised = run(engine, tokens, sampling=Sampling(temperature=0.0, repeat_penalty=10.0), max_tokens=1)
    assert text(penalised) == REPLY[0]


def test_limits_stops_and_choices(tmp_path: Path):
    write_tiny(tmp_path / "m.bin", mode="cycle")
    engine = opened(tmp_path / "m.bin")
    tokens = engine.render(QUESTION, {})
    assert text(run(engine, tokens, max_tokens=20)).startswith(REPLY + REPLY[:5])
    [only] = run(engine, tokens, max_tokens=0)
    assert (only.finish_reason, only.tokens, only.piece) == ("length", 0, b"")
    stop = engine.tokenize("小", False, False)[-1]
    stopped = run(engine, tokens, stop_token_ids=frozenset({stop}))
    assert text(stopped) == REPLY[: REPLY.index("小")] and stopped[-1].finish_reason == "stop"
    outputs = run(engine, tokens, max_tokens=2, n=3)
    assert [text([one for one in outputs if one.index == i]) for i in range(3)] == [REPLY[:2]] * 3


def test_a_cancelled_answer_makes_room_for_the_next(tmp_path: Path):
    write_tiny(tmp_path / "m.bin", mode="cycle")
    engine = opened(tmp_path / "m.bin")
    tokens = engine.render(QUESTION, {})
    engine.submit(Request(1, tokens, GREEDY, 1000, n=2))
    engine.submit(Request(2, tokens, GREEDY, 3))
    engine.step()
    engine.cancel(1, 0)
    assert engine.step()[0].index == 1 and engine.load_now().waiting == 1
    engine.cancel(1)
    outputs = [engine.step()[0] for _ in range(3)]
    assert [one.request_id for one in outputs] == [2, 2, 2] and text(outputs) == REPLY[:3]
    assert not engine.busy()
    engine.close()
    engine.close()


def test_usage_and_pieces_through_a_worker(tmp_path: Path):
    write_tiny(tmp_path / "m.bin", "chatglm3")
    with WorkerProcess("chatglm.cpp", [str(tmp_path / "m.bin")]) as worker:
        ready = worker.ready()
        assert (ready.context_length, ready.abilities) == (WINDOW, ["chat", "generate"])
        assert ready.memory_bytes["weights"] == (tmp_path / "m.bin").stat().st_size
        worker.send(Generate(1, messages=QUESTION, sampling=GREEDY))
        prompt_tokens = len(opened(tmp_path / "m.bin").render(QUESTION, {}))
        assert worker.until(Accepted).prompt_tokens == prompt_tokens
        done = worker.until(Done)
        assert (done.finish_reason, done.completion_tokens) == ("stop", len(REPLY) + 3)
        deltas, _ = worker.collect(Generate(2, messages=QUESTION, sampling=GREEDY))[(2, 0)]
        assert [delta.text for delta in deltas] == list(REPLY)
        worker.send(Generate(3, messages=QUESTION, sampling=Sampling(seed=3)))
        assert worker.until(Failed, Accepted).param == "seed"


def test_a_window_longer_than_the_files_is_refused(tmp_path: Path):
    assert opened(tmp_path / "m.bin", context_length=64).describe().context_length == 64
    with pytest.raises(BadRequest) as caught:
        opened(tmp_path / "m.bin", context_length=WINDOW + 1)
    assert caught.value.param == "context_length" and str(WINDOW) in caught.value.hint


# ---- files that are not as they should be: the library would abort the process


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, family: str):
    write_tiny(tmp_path / "whole.bin", family)
    whole = (tmp_path / "whole.bin").read_bytes()
    cut = tmp_path / "cut.bin"
    for size in [*range(0, 80, 3), *range(80, len(whole), len(whole) // 40), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(LoadFailed, match=r"cut.bin (ends|is not|has)") as caught:
            opened(cut)
        assert caught.value.hint
    cut.write_bytes(whole + b"\0\0\0\0")
    with pytest.raises(LoadFailed, match="goes on after its last tensor"):
        opened(cut)


def test_every_wrong_number_in_the_head_is_refused_or_does_no_harm(tmp_path: Path):
    """-1, 0, one more and far too much, in place of each number of the head and of the first tensor."""
    write_tiny(tmp_path / "whole.bin")
    whole = (tmp_path / "whole.bin").read_bytes()
    size = struct.unpack_from("<i", whole, 64)[0]
    name = struct.unpack_from("<i", whole, 68 + size)[0]
    places = [*range(0, 68, 4), 68 + size, *range(72 + size + name, 88 + size + name, 4)]
    refused = 0
    for place in places:
        now = struct.unpack_from("<i", whole, place)[0]
        for value in (-1, 0, now + 1, now * 2 + 64, 2**31 - 1):
            wrong = bytearray(whole)
            struct.pack_into("<i", wrong, place, max(-(2**31), min(value, 2**31 - 1)))
            (tmp_path / "wrong.bin").write_bytes(wrong)
            try:
                engine = opened(tmp_path / "wrong.bin", context_length=256)
                run(engine, engine.render(QUESTION, {}), max_tokens=2)
            except (LoadFailed, BadRequest):
                refused += 1
    assert refused > len(places) * 2


def test_tokens_and_weights_must_belong_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_tiny(tmp_path / "m.bin")
    monkeypatch.setattr("xin.backends.chatglm_cpp.pieces._SPECIAL", {2: 6})
    with pytest.raises(LoadFailed, match="tokens, but weights for"):
        opened(tmp_path / "m.bin")


@pytest.mark.parametrize(("family", "place"), [("chatglm2", 70), ("chatglm3", 68), ("chatglm4", 68)])
def test_a_damaged_tokenizer_is_told(tmp_path: Path, family: str, place: int):
    """Found here or by the library: a piece without a text, a field of another kind, a byte that has no token."""
    whole = bytearray(write_and_read(tmp_path / "m.bin", family))
    whole[place] ^= 96
    (tmp_path / "m.bin").write_bytes(whole)
    with pytest.raises(LoadFailed, match=r"m.bin has a damaged tokenizer|could not load m.bin: Internal: "):
        opened(tmp_path / "m.bin")


def test_other_files_are_named(tmp_path: Path, smollm2: Path):
    for path, words in ((smollm2, "is not a file of chatglm.cpp"), (tmp_path / "none.bin", "cannot read")):
        with pytest.raises(LoadFailed, match=words):
            model_file.read(path)
    whole = bytearray(write_and_read(tmp_path / "m.bin"))
    struct.pack_into("<i", whole, 4, 1004)
    (tmp_path / "m.bin").write_bytes(whole)
    with pytest.raises(LoadFailed, match="takes images"):
        model_file.read(tmp_path / "m.bin")


def write_and_read(path: Path, family: str = "chatglm2") -> bytes:
    write_tiny(path, family)
    return path.read_bytes()


def test_a_worker_tells_a_cut_file_instead_of_dying_of_it(tmp_path: Path):
    whole = write_and_read(tmp_path / "m.bin")
    (tmp_path / "m.bin").write_bytes(whole[: len(whole) // 2])
    with WorkerProcess("chatglm.cpp", [str(tmp_path / "m.bin")]) as worker:
        failed = worker.until(Failed)
        assert failed.code == "load_failed" and "ends in the middle of" in failed.message
        assert worker.process.wait(10) == 1
