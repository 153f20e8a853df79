"""ggml's RPC: the numbers by which llama.cpp divides layers, and what is told of a server that is not there."""

from __future__ import annotations

import socket
import subprocess
import sys

import msgspec
import pytest

from xin.backends.llama_cpp.rpc_words import ServerWord
from xin.worker.frames import Share

PROBE = """
from xin.backends.llama_cpp import rpc
from xin.errors import LoadFailed
try:
    rpc.join(["127.0.0.1:1"])
except LoadFailed as exc:
    print(exc.message)
"""


def test_each_holder_gets_its_layers_and_the_last_one_the_output_too():
    shares = [Share(10), Share(12, "a"), Share(8, "b")]
    layers, parts = divided(shares, [[7], [5]], [])
    assert (layers, parts) == (21, [12, 9])
    layers, parts = divided(shares, [[7], [5]], [300, 100])
    assert (layers, parts) == (31, [12, 8, 8.25, 2.75])


def test_devices_of_one_helper_share_by_their_memory_or_evenly():
    assert divided([Share(1), Share(7, "a")], [[30, 10]], []) == (8, [6, 2])
    assert divided([Share(1), Share(7, "a")], [[0, 0]], []) == (8, [4, 4])


def divided(shares: list[Share], frees: list[list[int]], local: list[int]) -> tuple[int, list[float]]:
    from xin.backends.llama_cpp import rpc

    joined = [[rpc.RpcDevice(0, "RPC", 1, free) for free in each] for each in frees]
    layers, parts = rpc.split(shares, joined, local)
    return layers, [part for part in parts if part]


def test_a_server_that_is_not_there_is_told():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60)
    assert "the RPC server behind 127.0.0.1:1 does not answer" in done.stdout, done.stderr


def test_a_server_is_reached_over_its_socket_alone_and_ends_with_who_started_it():
    own, its = socket.socketpair()
    command = [sys.executable, "-P", "-m", "xin.backends.llama_cpp.rpc_server", "1", str(its.fileno())]
    pipe = subprocess.PIPE
    with (
        own,
        subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, pass_fds=[its.fileno()]
        ) as server,
    ):
        its.close()
        assert server.stdin is not None and server.stdout is not None
        word = msgspec.json.decode(server.stdout.readline(), type=ServerWord)
        assert word.devices[0].free_bytes > 0
        assert answer_to_nonsense(own) == b"", "the server has hung up"
        if word.isolated:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", word.port), 5)
        server.stdin.close()
        assert server.wait(10) == 0


def answer_to_nonsense(way: socket.socket) -> bytes:
    client, its = socket.socketpair()
    with client:
        with its:
            socket.send_fds(way, [b"+"], [its.fileno()])
        client.settimeout(10)
        client.sendall(b"?" * 64)
        return client.recv(8)
