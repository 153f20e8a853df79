"""/v1/audio on the echo engine, which hears each line of a text as a second of speech."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from live_node import LiveNode

from xin.client import Client
from xin.errors import BadRequest, UnsupportedParameter
from xin.protocol.audio import TranscriptDelta, TranscriptDone

TALK = b"good morning\nthis is --> a talk\nthat ends"
TEXT = "good morning this is --> a talk that ends"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("audio")) as node:
        node.launch("echo", speech=True)
        node.launch("echo", model_uid="deaf")
        yield node


@pytest.fixture(scope="module")
def client(node: LiveNode) -> Iterator[Client]:
    with Client(node.url) as client:
        yield client


def post(node: LiveNode, task: str = "transcriptions", *, file: bytes | None = TALK, **fields: Any) -> httpx.Response:
    given = {"model": "echo", **fields}
    if file is None:
        return node.http.post(f"/v1/audio/{task}", files={name: (None, value) for name, value in given.items()})
    return node.http.post(f"/v1/audio/{task}", data=given, files={"file": ("talk.wav", file)})


def test_json_has_the_text_and_the_seconds(node: LiveNode):
    reply = post(node)
    assert reply.status_code == 200, reply.text
    assert reply.json() == {"text": TEXT, "usage": {"type": "duration", "seconds": 3}}


def test_a_translation_is_another_task(node: LiveNode):
    assert post(node, "translations").json()["text"] == TEXT.upper()


def test_text_and_subtitles(node: LiveNode):
    assert post(node, response_format="text").text == TEXT + "\n"
    srt = post(node, response_format="srt")
    assert srt.text.split("\n\n")[1] == "2\n00:00:01,000 --> 00:00:02,000\nthis is -> a talk"
    vtt = post(node, response_format="vtt")
    assert vtt.headers["content-type"].startswith("text/vtt")
    assert vtt.text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\ngood morning\n\n")


def test_verbose_json_has_segments_and_words_as_asked(node: LiveNode):
    told = post(node, response_format="verbose_json", language="de").json()
    assert (told["task"], told["language"], told["duration"], told["text"]) == ("transcribe", "de", 3.0, TEXT)
    assert [(one["id"], one["start"], one["end"], one["text"]) for one in told["segments"]][2] == (
        2,
        2,
        3,
        " that ends",
    )
    assert "words" not in told
    words = post(node, response_format="verbose_json", **{"timestamp_granularities[]": ["word"]}).json()
    assert words["words"][1] == {"word": "morning", "start": 0.5, "end": 1.0}
    assert "segments" not in words


def test_a_stream_gives_each_segment_and_then_the_whole(client: Client):
    events = list(client.transcribe_stream("echo", TALK))
    assert [one.delta for one in events if isinstance(one, TranscriptDelta)] == [
        "good morning",
        " this is --> a talk",
        " that ends",
    ]
    assert isinstance(events[-1], TranscriptDone)
    assert (events[-1].text, events[-1].usage.seconds) == (TEXT, 3)


def test_the_clients_forms(client: Client):
    assert client.transcribe("echo", TALK, response_format="verbose_json").duration == 3.0
    assert client.transcribe_text("echo", TALK, task="translations") == TEXT.upper() + "\n"
    model = client.get_model("echo")
    assert model.transcriptions(TALK, "en", None, "verbose_json")["language"] == "en"
    assert model.translations(TALK, response_format="text") == TEXT.upper() + "\n"
    with pytest.raises(BadRequest) as twice:
        model.transcriptions(TALK, "en", language="de")
    assert twice.value.param == "language"


def test_an_empty_recording_has_no_text(node: LiveNode):
    assert post(node, file=b"\n").json()["text"] == ""


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "xml"}, "response_format"),
        ({"response_format": "srt", "stream": "true"}, "response_format"),
        ({"temperature": "2"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"stream": "perhaps"}, "stream"),
        ({"timestamp_granularities[]": ["word"]}, "timestamp_granularities"),
        ({"response_format": "verbose_json", "timestamp_granularities[]": ["letter"]}, "timestamp_granularities"),
        ({"include[]": ["logprobs"]}, "include"),
        ({"chunking_strategy": "auto"}, "chunking_strategy"),
        ({"languge": "en"}, "languge"),
        ({"model": ["echo", "echo"]}, "model"),
        ({"file": b""}, "file"),
        ({"file": b"\xff\xfe\x00"}, "file"),
        ({"file": None}, "file"),
        ({"file": b"x" * (25 * 2**20 + 1)}, "file"),
    ],
)
def test_what_is_wrong_is_named(node: LiveNode, fields: dict[str, Any], param: str):
    reply = post(node, **fields)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"].startswith(param)


def test_a_model_that_hears_nothing_says_so(client: Client):
    with pytest.raises(UnsupportedParameter, match="writes down no speech"):
        client.transcribe("deaf", TALK)


def test_bodies_that_are_no_form(node: LiveNode):
    url = "/v1/audio/transcriptions"
    assert node.http.post(url, json={"model": "echo"}).status_code == 415
    kind = {"content-type": "multipart/form-data; boundary=x"}
    for body in (b"", b"garbage", b"--x\r\n\r\n", b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\nab'):
        reply = node.http.post(url, content=body, headers=kind)
        assert reply.status_code == 400, (body, reply.text)
        assert reply.json()["error"]["message"]
    assert node.http.post(url, content=b"x", headers={"content-type": "multipart/form-data"}).status_code == 400
    assert node.http.post("/v1/chat/completions", content=b"x", headers=kind).status_code == 415


def test_a_page_of_another_origin_may_not_send_a_recording(node: LiveNode):
    reply = node.http.post(
        "/v1/audio/transcriptions",
        data={"model": "echo"},
        files={"file": TALK},
        headers={"origin": "https://evil.example"},
    )
    assert reply.status_code == 403


def test_who_leaves_frees_the_model(node: LiveNode):
    node.launch("echo", model_uid="slow", speech=True, tokens_per_second=1, n_parallel=1)
    form = {"data": {"model": "slow", "stream": "true"}, "files": {"file": b"\n".join([b"word"] * 600)}}
    with node.http.stream("POST", "/v1/audio/transcriptions", **form) as reply:
        first = next(reply.iter_lines())
        assert json.loads(first.removeprefix("data: "))["delta"] == "word"
    # The next would wait for ten minutes if the first still ran.
    form["files"] = {"file": b"next"}
    assert '"next"' in node.http.post("/v1/audio/transcriptions", **form).text
