"""ggml's RPC server in a process of its own: `python -m xin.backends.llama_cpp.rpc_server THREADS`.

It takes whoever connects, a wrong word ends the process, and it cannot be stopped: so it listens on loopback alone,
tells its port and devices in one line of JSON on stdout (ServerWord), and ends when stdin does.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

import msgspec

from xin.backends.llama_cpp.rpc_words import ServerDevice, ServerWord

LISTEN_SECONDS = 20.0
HOST = "127.0.0.1"


def main(threads: int) -> int:
    sink = os.dup(1)
    os.dup2(2, 1)  # ggml prints
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from xin.backends.llama_cpp import library, rpc

    library.start()
    devices = rpc.offered()
    port = _free_port()
    told = [ServerDevice(one.name, one.is_cpu, one.free) for one in devices]
    threading.Thread(target=_tell, args=(sink, ServerWord(port, told)), daemon=True).start()
    rpc.serve(f"{HOST}:{port}", threads, devices)
    print(f"error: it cannot listen on {HOST}:{port}", file=sys.stderr, flush=True)
    return 1


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


def _free_port() -> int:
    """The server takes none that is open already, and tells nobody which one it was given."""
    with socket.create_server((HOST, 0)) as taken:
        return int(taken.getsockname()[1])


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)
