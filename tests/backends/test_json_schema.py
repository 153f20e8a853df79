"""Many seeds over five schemas at temperature 1 on the 135M model: every answer is valid and ends by itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
from worker_process import WorkerProcess

from xin.worker.frames import Constraint, Generate, Sampling

SCHEMAS: dict[str, dict[str, Any]] = {
    "nested object": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "address": {
                "type": "object",
                "properties": {"street": {"type": "string", "maxLength": 20}, "number": {"type": "integer"}},
                "required": ["street", "number"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "address"],
        "additionalProperties": False,
    },
    "array": {
        "type": "object",
        "properties": {"tags": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 4}},
        "required": ["tags"],
        "additionalProperties": False,
    },
    "enum": {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green", "blue"]}, "sure": {"type": "boolean"}},
        "required": ["colour", "sure"],
        "additionalProperties": False,
    },
    "bounded integer and pattern": {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 18, "maximum": 120},
            "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"},
            "note": {"type": "string", "maxLength": 16},
        },
        "required": ["age", "code", "note"],
        "additionalProperties": False,
    },
    "$ref": {
        "$defs": {
            "person": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 12}},
                "required": ["name"],
                "additionalProperties": False,
            }
        },
        "type": "object",
        "properties": {"author": {"$ref": "#/$defs/person"}, "reader": {"$ref": "#/$defs/person"}},
        "required": ["author", "reader"],
        "additionalProperties": False,
    },
}


ENGINES = {"llama.cpp": "smollm2", "transformers": "smollm2_torch"}  # and the fixture of its weights
RUNS = [
    ("llama.cpp", 6),
    pytest.param("llama.cpp", 100, marks=pytest.mark.slow),
    pytest.param("transformers", 100, marks=pytest.mark.slow),
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("engine", "seeds"), RUNS)
def test_every_answer_is_valid_and_ends(engine: str, seeds: int, request: pytest.FixtureRequest) -> None:
    weights: Path = request.getfixturevalue(ENGINES[engine])
    cases = [(seed, name) for seed in range(seeds) for name in SCHEMAS]
    requests = [
        Generate(
            number + 1,
            messages=[{"role": "user", "content": f"Give me an example ({name}) as JSON."}],
            sampling=Sampling(temperature=1.0, seed=seed),
            max_tokens=400,
            constraint=Constraint("json_schema", json.dumps(SCHEMAS[name])),
        )
        for number, (seed, name) in enumerate(cases)
    ]
    with WorkerProcess(engine, [str(weights)], context_length=1024, n_parallel=16) as worker:
        worker.ready()
        found = worker.collect(*requests)
    for asked, (seed, name) in zip(requests, cases, strict=True):
        deltas, done = found[(asked.request_id, 0)]
        text = "".join(delta.text for delta in deltas)
        assert done.finish_reason == "stop", (name, seed, text)
        jsonschema.validate(json.loads(text), SCHEMAS[name])
