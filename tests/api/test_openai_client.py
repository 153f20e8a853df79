"""The real openai client against a real node: the echo engine where shapes matter, SmolLM2 where words do."""

from __future__ import annotations

import base64
import json
import math
import struct
from concurrent.futures import ThreadPoolExecutor

import openai as sdk
import pytest
from live_node import LiveNode
from openai import OpenAI
from pydantic import BaseModel

REAL = "smollm2"
ASK = [{"role": "user", "content": "What is the largest animal?"}]


def text_of(stream) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


# ---- models


def test_models_are_listed_and_found(openai: OpenAI):
    listed = {model.id: model for model in openai.models.list()}
    assert {"echo", "smollm2"} <= set(listed)
    found = openai.models.retrieve("smollm2")
    assert (found.object, found.owned_by) == ("model", "xin")
    assert found.created > 1_600_000_000


# ---- chat


def test_a_chat_answers_with_its_usage(openai: OpenAI):
    answer = openai.chat.completions.create(model="echo", messages=[{"role": "user", "content": "one two three"}])
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3


def test_a_stream_begins_with_the_role_and_ends_with_the_usage(openai: OpenAI):
    chunks = list(
        openai.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "one two"}], stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text_of(chunks) == "one two"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 2
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_stream_of_a_real_model_says_what_the_plain_answer_says(openai: OpenAI):
    asked = {"model": REAL, "messages": ASK, "temperature": 0, "max_tokens": 24}
    plain = openai.chat.completions.create(**asked)
    assert text_of(openai.chat.completions.create(**asked, stream=True)) == plain.choices[0].message.content
    assert plain.choices[0].finish_reason == "length"
    assert plain.usage.completion_tokens == 24


def test_two_choices_are_two_answers(openai: OpenAI):
    answer = openai.chat.completions.create(model=REAL, messages=ASK, n=2, max_tokens=16, seed=7, temperature=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content != answer.choices[1].message.content
    assert answer.usage.completion_tokens == 32


def test_two_streamed_choices_are_told_apart_by_index(openai: OpenAI):
    texts = {0: "", 1: ""}
    roles = set()
    asked = {"model": "echo", "messages": [{"role": "user", "content": "a b c"}], "n": 2, "stream": True}
    for chunk in openai.chat.completions.create(**asked):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        roles.add((choice.index, choice.delta.role)) if choice.delta.role else None
    assert texts == {0: "a b c", 1: "a b c"}
    assert roles == {(0, "assistant"), (1, "assistant")}


def test_a_seed_gives_the_same_words_again(openai: OpenAI):
    def say(seed: int) -> str:
        asked = {"model": REAL, "messages": ASK, "max_tokens": 16, "temperature": 1}
        return openai.chat.completions.create(**asked, seed=seed).choices[0].message.content

    assert say(11) == say(11)
    assert len({say(seed) for seed in (11, 12, 13)}) > 1


@pytest.mark.parametrize("stop", ["two", ["nothing", "two"]])
def test_a_stop_string_ends_the_text_before_it(openai: OpenAI, stop):
    answer = openai.chat.completions.create(
        model="echo", messages=[{"role": "user", "content": "one two three"}], stop=stop
    )
    assert answer.choices[0].message.content == "one "
    assert answer.choices[0].finish_reason == "stop"


def test_logprobs_come_with_their_alternatives(openai: OpenAI):
    asked = {"model": REAL, "messages": ASK, "max_tokens": 4, "temperature": 0, "logprobs": True, "top_logprobs": 3}
    plain = openai.chat.completions.create(**asked)
    entries = plain.choices[0].logprobs.content
    assert "".join(entry.token for entry in entries) == plain.choices[0].message.content
    for entry in entries:
        assert entry.logprob <= 0
        assert bytes(entry.bytes).decode() == entry.token
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token, "temperature 0 takes the likeliest"
    chunks = openai.chat.completions.create(**asked, stream=True)
    streamed = [entry for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    assert [entry.token for entry in streamed] == [entry.token for entry in entries]


def test_a_logit_bias_of_100_decides_the_token(openai: OpenAI, api_node):
    (token,) = api_node.http.post("/v1/tokenize", json={"model": REAL, "prompt": " whale"}).json()["tokens"]
    answer = openai.chat.completions.create(model=REAL, messages=ASK, max_tokens=3, logit_bias={str(token): 100})
    assert answer.choices[0].message.content == " whale whale whale"


class Animal(BaseModel):
    name: str
    legs: int


def test_parse_returns_the_object_that_was_asked_for(openai: OpenAI):
    answer = openai.chat.completions.parse(
        model=REAL,
        messages=[{"role": "user", "content": "Name an animal and say how many legs it has."}],
        response_format=Animal,
        max_tokens=200,
        seed=3,
    )
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(answer.choices[0].message.parsed, Animal)


def test_the_streaming_helper_parses_too(openai: OpenAI):
    with openai.chat.completions.stream(
        model=REAL, messages=ASK, response_format=Animal, max_tokens=200, seed=3
    ) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Animal)


def test_json_mode_gives_json(openai: OpenAI):
    answer = openai.chat.completions.create(
        model=REAL,
        messages=[{"role": "user", "content": "A short JSON object, please."}],
        response_format={"type": "json_object"},
        max_tokens=300,
        seed=5,
    )
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    else:
        assert answer.choices[0].message.content.lstrip().startswith("{")


def test_sixteen_streams_at_once_do_not_mix(openai: OpenAI):
    def say(i: int) -> str:
        words = " ".join([f"w{i}"] * 30)
        return text_of(
            openai.chat.completions.create(
                model="echo", messages=[{"role": "user", "content": words}], stream=True, max_tokens=30
            )
        )

    with ThreadPoolExecutor(16) as pool:
        for i, said in enumerate(pool.map(say, range(16))):
            assert said == " ".join([f"w{i}"] * 30)


def test_a_model_that_cannot_think_need_not_be_told_to_stop(openai: OpenAI):
    quiet = {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}
    asked = {"model": REAL, "messages": ASK, "max_tokens": 2}
    assert openai.chat.completions.create(**asked, extra_body=quiet).choices[0].message.content
    with pytest.raises(sdk.BadRequestError) as refused:
        openai.chat.completions.create(**asked, extra_body={"enable_thinking": True})
    assert refused.value.param == "enable_thinking"


def test_no_ops_are_named_in_a_header(openai: OpenAI):
    raw = openai.chat.completions.with_raw_response.create(
        model="echo", messages=ASK, user="me", store=False, metadata={"a": "b"}
    )
    assert raw.headers["xin-ignored"] == "metadata, store, user"


def test_a_worker_that_dies_is_told_in_the_stream(tmp_path):
    with LiveNode(tmp_path) as node, OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0) as client:
        node.launch("echo", die_after=3)
        with pytest.raises(sdk.APIError) as failed:
            list(client.chat.completions.create(model="echo", messages=ASK, stream=True))
        assert failed.value.code == "worker_died"


# ---- completions


def test_echo_gives_the_prompt_first(openai: OpenAI):
    done = openai.completions.create(
        model=REAL, prompt="Once upon a", max_tokens=2, temperature=0, echo=True, logprobs=1
    )
    choice = done.choices[0]
    assert choice.text.startswith("Once upon a")
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    assert choice.logprobs.text_offset == [
        len("".join(choice.logprobs.tokens[:i])) for i in range(len(choice.logprobs.tokens))
    ]
    assert choice.logprobs.top_logprobs[0] is None


def test_echo_without_new_tokens_scores_the_prompt(openai: OpenAI):
    done = openai.completions.create(model=REAL, prompt="Once upon a time", max_tokens=0, echo=True, logprobs=1)
    assert done.choices[0].text == "Once upon a time"
    assert done.usage.completion_tokens == 0


def test_a_list_of_prompts_is_answered_in_order(openai: OpenAI):
    done = openai.completions.create(model="echo", prompt=["one", "two two", "three"], n=2)
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3, 4, 5]
    assert [choice.text for choice in done.choices] == ["one", "one", "two two", "two two", "three", "three"]
    assert done.usage.completion_tokens == 8


def test_a_streamed_list_of_prompts_is_told_apart_by_index(openai: OpenAI):
    texts = {0: "", 1: "", 2: ""}
    for chunk in openai.completions.create(model="echo", prompt=["a b", "c d", "e f"], stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == {0: "a b", 1: "c d", 2: "e f"}


def test_token_ids_are_a_prompt(openai: OpenAI, api_node):
    tokens = api_node.http.post("/v1/tokenize", json={"model": REAL, "prompt": "Once upon a time"}).json()["tokens"]
    asked = {"model": REAL, "max_tokens": 5, "temperature": 0}
    by_text = openai.completions.create(prompt="Once upon a time", **asked)
    by_ids = openai.completions.create(prompt=tokens, **asked)
    both = openai.completions.create(prompt=[tokens, tokens], **asked)
    assert by_ids.choices[0].text == by_text.choices[0].text
    assert [choice.text for choice in both.choices] == [by_text.choices[0].text] * 2
    assert by_ids.usage.prompt_tokens == len(tokens)


def test_best_of_keeps_the_likeliest(openai: OpenAI):
    done = openai.completions.create(model=REAL, prompt="Once upon a", max_tokens=4, best_of=4, n=2, seed=1)
    assert [choice.index for choice in done.choices] == [0, 1]
    assert done.choices[0].logprobs is None
    assert done.usage.completion_tokens == 16


def test_a_suffix_is_refused_by_a_model_without_infill(openai: OpenAI):
    with pytest.raises(sdk.BadRequestError) as refused:
        openai.completions.create(model=REAL, prompt="def f(", suffix="return 1", max_tokens=4)
    assert refused.value.param == "suffix"


# ---- embeddings


def test_embeddings_as_floats_and_base64_are_the_same(openai: OpenAI):
    floats = openai.embeddings.create(model=REAL, input="hello", encoding_format="float")
    packed = openai.embeddings.with_raw_response.create(model=REAL, input="hello", encoding_format="base64")
    raw = base64.b64decode(packed.http_response.json()["data"][0]["embedding"])
    vector = floats.data[0].embedding
    assert struct.unpack(f"<{len(vector)}f", raw) == pytest.approx(vector, rel=1e-5)
    assert math.isclose(sum(x * x for x in vector), 1.0, rel_tol=1e-3)
    assert floats.usage.prompt_tokens > 0


def test_a_list_of_texts_and_of_tokens_is_embedded_in_order(openai: OpenAI, api_node):
    texts = ["hello", "good bye"]
    ids = [api_node.http.post("/v1/tokenize", json={"model": REAL, "prompt": text}).json()["tokens"] for text in texts]
    by_text = openai.embeddings.create(model=REAL, input=texts)
    by_ids = openai.embeddings.create(model=REAL, input=ids)
    assert [item.index for item in by_text.data] == [0, 1]
    for one, other in zip(by_text.data, by_ids.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-4)


# ---- errors


def test_an_unknown_model_is_not_found(openai: OpenAI):
    with pytest.raises(sdk.NotFoundError) as missing:
        openai.chat.completions.create(model="no-such-model", messages=ASK)
    assert (missing.value.code, missing.value.type) == ("model_not_found", "invalid_request_error")
    with pytest.raises(sdk.NotFoundError):
        openai.models.retrieve("no-such-model")


def test_a_prompt_over_the_window_is_told_before_the_stream_begins(openai: OpenAI):
    for stream in (False, True):
        with pytest.raises(sdk.BadRequestError) as too_long:
            openai.chat.completions.create(
                model="echo", messages=[{"role": "user", "content": "word " * 300}], stream=stream
            )
        assert too_long.value.code == "context_length_exceeded"
        assert too_long.value.param == "messages"
        assert set(too_long.value.body) >= {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"seed": "x"}, "seed"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
    ],
)
def test_what_is_wrong_is_named(openai: OpenAI, fields, param):
    with pytest.raises(sdk.BadRequestError) as refused:
        openai.chat.completions.create(**{"model": "echo", "messages": ASK, **fields})
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
