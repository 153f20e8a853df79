"""ggml's RPC server in a process of its own: `python -m xin.backends.llama_cpp.rpc_server THREADS FD`.

It takes whoever connects, a wrong word ends the process, and it cannot be stopped. So it listens on a loopback of its
own where the kernel lets it have one, its clients come as sockets over the Unix socket FD, and it ends when stdin does.
Once it listens it tells its devices in one line of JSON on stdout (ServerWord).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from xin.backends.llama_cpp.rpc_words import ServerDevice, ServerWord

LISTEN_SECONDS = 20.0
HOST = "127.0.0.1"
PIECE_BYTES = 1 << 18
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


def main(threads: int, clients: int) -> int:
    isolated = isolate()  # before there is a second thread
    sink = os.dup(1)
    os.dup2(2, 1)  # ggml prints
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from xin.backends.llama_cpp import library, rpc

    library.start()
    devices = rpc.offered()
    port = _free_port()
    word = ServerWord(port, isolated, [ServerDevice(one.name, one.is_cpu, one.free) for one in devices])
    threading.Thread(target=_tell, args=(sink, word), daemon=True).start()
    threading.Thread(target=_receive, args=(socket.socket(fileno=clients), port), daemon=True).start()
    rpc.serve(f"{HOST}:{port}", threads, devices)
    print(f"error: it cannot listen on {HOST}:{port}", file=sys.stderr, flush=True)
    return 1


def isolate() -> bool:
    """Into a network of its own that has nothing but a loopback; False where this system has none such for users."""
    if sys.platform != "linux":
        return False
    import fcntl

    user = os.geteuid()
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    if unshare(_CLONE_NEWUSER | _CLONE_NEWNET) and unshare(_CLONE_NEWNET):
        return False
    with suppress(OSError):  # without it the process is nobody to itself, which does no harm
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    return True


def _tell(sink: int, word: ServerWord) -> None:
    """Once it listens."""
    deadline = time.monotonic() + LISTEN_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, word.port), 1).close()
        except OSError:
            time.sleep(0.01)
            continue
        os.write(sink, msgspec.json.encode(word) + b"\n")
        return


def _receive(clients: socket.socket, port: int) -> None:
    """One client for each socket that comes."""
    while True:
        _, received, _, _ = socket.recv_fds(clients, 1, 1)
        for number in received:
            client = socket.socket(fileno=number)
            server = socket.create_connection((HOST, port))
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for way in ((client, server), (server, client)):
                threading.Thread(target=_carry, args=way, daemon=True).start()
        if not received:
            return


def _carry(source: socket.socket, sink: socket.socket) -> None:
    """All bytes, then the end, of one way; the end of one ends the other."""
    piece = memoryview(bytearray(PIECE_BYTES))
    with suppress(OSError):
        while count := source.recv_into(piece):
            sink.sendall(piece[:count])
    for end in (source, sink):
        with suppress(OSError):  # it has ended
            end.shutdown(socket.SHUT_RDWR)


def _free_port() -> int:
    """The server takes none that is open already, and tells nobody which one it was given."""
    with socket.create_server((HOST, 0)) as taken:
        return int(taken.getsockname()[1])


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    code = main(int(sys.argv[1]), int(sys.argv[2]))
    sys.stderr.flush()
    os._exit(code)
