"""What rpc_server tells who started it: one line of JSON."""

from __future__ import annotations

import msgspec


class ServerDevice(msgspec.Struct):
    """`free_bytes`: of a CPU, what ggml takes for its memory; a control group may allow less."""

    name: str
    is_cpu: bool
    free_bytes: int


class ServerWord(msgspec.Struct):
    """`isolated`: its port is on a loopback of its own, which no other process has."""

    port: int
    isolated: bool = False
    devices: list[ServerDevice] = []
