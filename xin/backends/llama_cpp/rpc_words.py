"""What rpc_server tells who started it: one line of JSON."""

from __future__ import annotations

import msgspec


class ServerDevice(msgspec.Struct):
    """`free_bytes`: of a CPU, what ggml takes for its memory; a control group may allow less."""

    name: str
    is_cpu: bool
    free_bytes: int


class ServerWord(msgspec.Struct):
    port: int
    devices: list[ServerDevice] = []
