"""Image parts of messages: for models that take images, from data URLs to bytes; for others refused by name."""

from __future__ import annotations

import asyncio
from typing import Any

from xin.errors import BadRequest, UnsupportedParameter
from xin.node.image_fetch import fetch
from xin.protocol.image import from_data_url
from xin.protocol.node import Instance

VISION = "vision"


async def take_images(messages: list[dict[str, Any]] | None, instance: Instance, *, may_fetch: bool) -> None:
    """Replace what `checked_messages` left of image parts by `{"type": "image", "media_type": …, "data": bytes}`.

    `may_fetch`: those that are named by a URL are fetched.
    """
    found = [
        (content, index, f"messages[{number}].content[{index}]")
        for number, message in enumerate(messages or ())
        if isinstance(content := message["content"], list)
        for index, part in enumerate(content)
        if part["type"] == "image_url"
    ]
    if found and VISION not in instance.model_ability:
        raise UnsupportedParameter(
            f"{found[0][2]}: image_url parts are not supported: {instance.model_uid} takes no images",
            "send text parts only, or ask a model with the ability vision",
            param=found[0][2],
        )
    for content, index, where in found:
        content[index] = await _image(content[index]["image_url"], f"{where}.image_url", may_fetch)


async def _image(given: object, where: str, may_fetch: bool) -> dict[str, Any]:
    url = given.get("url") if isinstance(given, dict) else None
    if not isinstance(url, str):
        raise BadRequest(f'{where}: expected {{"url": "data:image/png;base64,…"}}', param=where)
    inline = url.startswith("data:")
    if not inline and not may_fetch:
        message = f"{where}.url: {url[:80]!r} is no data URL, and nothing is fetched for a request"
        hint = "send the image itself: data:image/png;base64,…, or start the node with --fetch-images"
        raise UnsupportedParameter(message, hint, param=f"{where}.url")
    try:
        media_type, data = await (asyncio.to_thread(from_data_url, url) if inline else fetch(url))
    except ValueError as exc:
        raise BadRequest(f"{where}.url: {exc}", param=f"{where}.url") from exc
    return {"type": "image", "media_type": media_type, "data": data}
