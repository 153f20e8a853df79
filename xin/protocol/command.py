"""The shell line that is equal to a launch."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from xin.protocol.node import LaunchRequest

_FLAGS = (
    ("model_engine", "--engine"),
    ("model_size_in_billions", "--size-in-billions"),
    ("model_format", "--model-format"),
    ("quantization", "--quantization"),
    ("model_uid", "--model-uid"),
    ("keep_alive", "--keep-alive"),
)
_encode = msgspec.json.Encoder().encode


def launch_command(request: LaunchRequest) -> str:
    """`xin launch NAME …` with everything that was asked for, quoted for a shell."""
    words = ["xin", "launch", request.model_name]
    for field, flag in _FLAGS:
        value = getattr(request, field)
        if value is not None:
            words.append(f"{flag}={value}" if str(value).startswith("-") else f"{flag} {shlex.quote(str(value))}")
    words += [f"--replica {request.replica}"] if request.replica != 1 else []
    words += [f"--gpu {','.join(map(str, request.gpu))}"] if request.gpu is not None else []
    words += [flag for given, flag in ((request.force, "--force"), (request.pin, "--pin")) if given]
    if request.shard:
        words.append(f"--shard {shlex.quote(','.join(request.shard))}")
    words += [_option(name, value) for name, value in request.options.items() if value is not None]
    return " ".join([*words[:2], shlex.quote(words[2]), *words[3:]])


def _option(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return f"{flag}={'true' if value else 'false'}"
    text = value if isinstance(value, str) else _encode(value).decode()
    return f"{flag}={shlex.quote(text)}"
