"""What prompt lookup gains: the same prompts with and without it, temperature 0, in interleaved rounds.

python benchmarks/lookup.py [--rounds 6] [--model FILE.gguf] [--quantization F16] [--draft-model FILE.gguf] [--json OUT]

Three tasks that repeat much of their prompt ("edit this file") and a free chat that repeats nothing. Tokens per second
from the first token to the last; the ratio is taken round by round. A draft pays where a step waits for memory, as
large models do; the demo model in 4 bits waits for arithmetic on most CPUs, with --quantization F16 for memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constraints import demo_model

from xin.backends.base import Request, Weights
from xin.backends.llama_cpp.engine import LlamaCppEngine
from xin.worker.frames import Sampling

TOKENS = 192
CODE = """import json

class Basket:
    def __init__(self, owner):
        self.owner = owner
        self.items = []

    def add(self, name, price, count=1):
        if count < 1:
            raise ValueError("count must be at least 1")
        self.items.append({"name": name, "price": price, "count": count})

    def total(self):
        return sum(item["price"] * item["count"] for item in self.items)

    def to_json(self):
        return json.dumps({"owner": self.owner, "items": self.items, "total": self.total()})
"""
SETTINGS = '{\n  "name": "kitchen-display",\n  "version": "1.4.2",\n  "screen": {"width": 1280, "height": 800, ' + (
    '"brightness": 70},\n  "network": {"host": "kitchen.local", "port": 8080, "retries": 3, "timeout_seconds": 30},\n'
    '  "languages": ["en", "de", "fr"],\n  "features": {"clock": true, "weather": true, "recipes": false}\n}\n'
)
LETTER = (
    "Dear Ms Holm,\n\nthank you for your letter of 3 May. We have looked at the two windows in your kitchen and found "
    "that both frames have to be replaced. The work takes one day, and our workshop can begin on Monday, 19 May, at "
    "eight in the morning. The price of 1,240 euros contains the glass, the frames, the paint and the removal of "
    "the old windows.\n\nPlease let us know by Friday whether the day suits you.\n\nYours sincerely,\nTomas Berg\n"
)
TASKS = {
    "edit code": f"Rename the class Basket to Cart in this file. Write out the whole file.\n\n{CODE}",
    "edit settings": f"Set the port to 9090 in this file. Write out the whole file.\n\n{SETTINGS}",
    "edit letter": f"Copy this letter, but with the day changed to Tuesday, 20 May.\n\n{LETTER}",
    "free chat": "What should somebody know who wants to keep bees in a garden for the first time?",
}


@dataclass(slots=True)
class Answer:
    rate: float
    tokens: list[int]
    drafted: int
    accepted: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--model", type=Path, default=demo_model(), help="a .gguf; default: the demo model")
    parser.add_argument("--quantization", help="make the model of this type first: F16, Q8_0, …")
    parser.add_argument("--draft-model", type=Path, help="a small .gguf: measure its guesses in place of prompt lookup")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = _made(options.model, options.quantization, Path(folder)) if options.quantization else options.model
        engines = {drafts: _engine(model, drafts, options.draft_model) for drafts in (False, True)}
    result = {name: _task(engines, prompt, options.rounds) for name, prompt in TASKS.items()}
    print(json.dumps(result, indent=1))
    print(f"load average {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


def _made(model: Path, quantization: str, folder: Path) -> Path:
    made = folder / f"{model.stem}-{quantization}.gguf"
    command = [sys.executable, "-m", "xin.backends.llama_cpp.quantize", str(model), str(made), quantization]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return made


def _engine(model: Path, drafts: bool, draft_model: Path | None) -> LlamaCppEngine:
    options = LlamaCppEngine.Options(
        context_length=2048,
        n_parallel=1,
        threads=os.cpu_count(),
        prefix_cache=0,
        prompt_lookup=drafts and draft_model is None,
        draft_model=str(draft_model) if drafts and draft_model is not None else None,
    )
    return LlamaCppEngine.load(Weights([str(model)], model.stem), options, lambda fraction, stage: None)


def _task(engines: dict[bool, LlamaCppEngine], prompt: str, rounds: int) -> dict[str, Any]:
    ratios, last = [], {}
    for number in range(rounds + 1):
        for lookup in (False, True) if number % 2 else (True, False):
            last[lookup] = _answer(engines[lookup], prompt, number + 1)
        if number:  # the first round warms up, and learns the prices
            ratios.append(last[True].rate / last[False].rate)
    same = sum(a == b for a, b in zip(last[True].tokens, last[False].tokens, strict=False))
    return {
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "tokens_per_second": round(last[True].rate, 1),
        "drafted": last[True].drafted,
        "accepted": last[True].accepted,
        "tokens": len(last[True].tokens),
        "equal_tokens": same,
    }


def _answer(engine: LlamaCppEngine, prompt: str, number: int) -> Answer:
    drafter = engine._scheduler._drafter
    before = drafter.drafted, drafter.accepted
    tokens = engine.render([{"role": "user", "content": prompt}], {})
    engine.submit(Request(number, tokens, Sampling(temperature=0.0, ignore_eos=True), TOKENS, logprobs=0))
    outputs: list[Any] = []
    while not outputs:
        outputs += engine.step()
    began = time.perf_counter()
    while engine.busy():
        outputs += engine.step()
    took = time.perf_counter() - began
    ids = [one.token_id for output in outputs for one in output.logprobs or ()]
    return Answer((len(ids) - 1) / took, ids, drafter.drafted - before[0], drafter.accepted - before[1])


if __name__ == "__main__":
    main()
