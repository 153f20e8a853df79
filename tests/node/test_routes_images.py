"""Images in chat messages: what a model that takes them is given, and how everything else is refused."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from live_node import LiveNode

from xin.protocol.image import IMAGE_BYTES, data_url, media_type, pixels


def png(width: int = 3, height: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\xff\x80\0" * width for _ in range(height)))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


GIF = b"GIF89a" + struct.pack("<HH", 640, 480) + b"\0\0\0;"
JPEG = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc2\0\x0b\x08" + struct.pack(">HH", 480, 640) + b"\x03\x01\x11\0\xff\xd9"
WEBP = b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")
LOSSY = b"RIFF\x1a\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640, 480)
LOSSLESS = b"RIFF\x1a\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + struct.pack("<I", 639 | 479 << 14)
SAMPLES = {"GIF": GIF, "JPEG": JPEG, "WEBP": WEBP, "PNG": png(640, 480)}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("images")) as node:
        node.launch("echo", model_uid="sees", vision=True)
        node.launch("echo", model_uid="blind")
        yield node


def ask(node: LiveNode, *parts: Any, model: str = "sees", role: str = "user") -> Any:
    messages = [{"role": role, "content": list(parts)}]
    if role != "user":
        messages.append({"role": "user", "content": "hi"})
    return node.http.post("/v1/chat/completions", json={"model": model, "messages": messages})


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(url: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_model_with_vision_gets_the_bytes_of_each_image(node: LiveNode, kind: str):
    data = SAMPLES[kind]
    reply = ask(node, text("look"), image(data_url(data), detail="low"), text("and say"))
    assert reply.status_code == 200, reply.text
    said = reply.json()["choices"][0]["message"]["content"]
    assert said == f"look\n[{kind} of 640 x 480 pixels, {len(data)} bytes]\nand say"


def test_an_image_of_some_megabytes_comes_through_whole(node: LiveNode):
    data = png() + bytes(5 * 2**20)
    said = ask(node, image(data_url(data))).json()["choices"][0]["message"]["content"]
    assert said == f"[PNG of 3 x 2 pixels, {len(data)} bytes]"


def test_its_ability_is_listed_and_a_chat_of_texts_goes_on_as_before(node: LiveNode):
    listed = {one["id"]: one for one in node.http.get("/v1/models").json()["data"]}
    assert "vision" in listed["sees"]["model_ability"] and "vision" not in listed["blind"]["model_ability"]
    assert ask(node, text("a"), text("b")).json()["choices"][0]["message"]["content"] == "a\nb"


AT = "messages[0].content[0]"
PNG = data_url(png())
WRONG: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (image(PNG), {"model": "blind"}, AT, "blind takes no images"),
    (image("http://127.0.0.1:1/a.png"), {"model": "blind"}, AT, "blind takes no images"),
    (image("http://127.0.0.1:1/a.png"), {}, f"{AT}.image_url.url", "nothing is fetched"),
    (image("file:///etc/passwd"), {}, f"{AT}.image_url.url", "no data URL"),
    (image("data:image/png,abc"), {}, f"{AT}.image_url.url", "base64"),
    (image("data:image/png;base64,%%%"), {}, f"{AT}.image_url.url", "not valid base64"),
    (image("data:image/png;base64," + base64.b64encode(b"<svg/>").decode()), {}, f"{AT}.image_url.url", "no image"),
    (image("data:image/png;base64," + "A" * (IMAGE_BYTES * 4 // 3 + 8)), {}, f"{AT}.image_url.url", "20 MiB"),
    (image(3), {}, f"{AT}.image_url", "expected"),
    ({"type": "image_url"}, {}, f"{AT}.image_url", "expected"),
    ({"type": "image_url", "image_url": "x"}, {}, f"{AT}.image_url", "expected"),
    (image(PNG), {"role": "assistant"}, AT, "only a user's"),
    (image(PNG), {"role": "system"}, AT, "only a user's"),
]


@pytest.mark.parametrize(("part", "fields", "param", "words"), WRONG)
def test_what_is_no_image_or_may_not_be_one_is_refused_by_name(
    node: LiveNode, part: dict[str, Any], fields: dict[str, Any], param: str, words: str
):
    reply = ask(node, part, **fields)
    error = reply.json()["error"]
    assert reply.status_code == 400 and error["param"] == param and words in error["message"]


def test_tokens_of_a_question_with_an_image_are_counted(node: LiveNode):
    body = {"model": "sees", "messages": [{"role": "user", "content": [image(PNG)]}]}
    assert node.http.post("/v1/tokenize", json=body).json()["count"] > 20
    refused = node.http.post("/v1/tokenize", json=body | {"model": "blind"})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == AT


def test_pixels_are_those_of_the_header_and_a_cut_header_has_none():
    assert {pixels(one) for one in (*SAMPLES.values(), LOSSY, LOSSLESS)} == {(640, 480)}
    for data in (*SAMPLES.values(), LOSSY, LOSSLESS):
        for end in range(min(len(data), 24)):
            assert pixels(data[:end]) in (None, (640, 480))
    assert media_type(b"RIFF\0\0\0\0WAVE") is None and pixels(b"") is None
