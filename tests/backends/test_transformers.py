"""The transformers engine with real weights, beside llama.cpp on the same ones, and launched by a node."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import tiny_encoder
from xinference_client import RESTfulClient

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
from live_node import LiveNode
from ties import assert_same_or_tied, steps_of
from tiny_causal import CHAIN, write_chain
from worker_process import WorkerProcess

from xin.worker.frames import Constraint, Generate, Result, Sampling, Tokenize, Tools

pytestmark = pytest.mark.slow  # SmolLM2 in float32: half a minute

GREEDY = Sampling(temperature=0.0)
QUESTIONS = ["What is the capital of France? Answer in one sentence.", "Name three colours.", "Why is the sky blue?"]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "sure": {"type": "boolean"}},
    "required": ["city", "sure"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def torch_worker(smollm2_torch: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess("transformers", [str(smollm2_torch)], context_length=1024, n_parallel=4) as process:
        process.ready()
        yield process


@pytest.fixture(scope="module")
def llama_worker(smollm2: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess("llama.cpp", [str(smollm2)], context_length=1024, n_parallel=4) as process:
        process.ready()
        yield process


def chat(request_id: int, text: str, **fields: object) -> Generate:
    fields.setdefault("sampling", GREEDY)
    return Generate(request_id, messages=[{"role": "user", "content": text}], **fields)  # type: ignore[arg-type]


def test_the_same_weights_say_the_same_on_both_engines(
    torch_worker: WorkerProcess, llama_worker: WorkerProcess
) -> None:
    prompts = []
    for worker in (torch_worker, llama_worker):
        worker.send(Tokenize(1, messages=[{"role": "user", "content": QUESTIONS[0]}]))
        prompts.append(worker.until(Result).tokens)
    assert prompts[0] == prompts[1]
    requests = [chat(10 + i, text, max_tokens=32, logprobs=20) for i, text in enumerate(QUESTIONS)]
    ours, theirs = torch_worker.collect(*requests), llama_worker.collect(*requests)
    assert_same_or_tied(
        {text: (steps_of(theirs[(10 + i, 0)][0]), steps_of(ours[(10 + i, 0)][0])) for i, text in enumerate(QUESTIONS)}
    )
    assert "Paris" in "".join(delta.text for delta in ours[(10, 0)][0])


def test_a_schema_holds_at_temperature_one(torch_worker: WorkerProcess) -> None:
    constraint = Constraint("json_schema", json.dumps(SCHEMA))
    requests = [
        chat(
            100 + seed,
            "Give me an example as JSON.",
            max_tokens=100,
            constraint=constraint,
            sampling=Sampling(seed=seed),
        )
        for seed in range(4)
    ]
    for deltas, done in torch_worker.collect(*requests).values():
        assert done.finish_reason == "stop"
        jsonschema.validate(json.loads("".join(delta.text for delta in deltas)), SCHEMA)


def test_a_forced_call_is_the_same_on_both_engines(torch_worker: WorkerProcess, llama_worker: WorkerProcess) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
    found = []
    for worker in (torch_worker, llama_worker):
        asked = chat(300, QUESTIONS[0], max_tokens=100, tools=Tools([tool], "required", parallel=False), n=1)
        deltas, done = worker.collect(asked)[(300, 0)]
        assert (done.finish_reason, "".join(delta.text for delta in deltas)) == ("tool_calls", "")
        calls = [call for delta in deltas for call in delta.calls or []]
        assert [call.name for call in calls if call.name] == ["look"]
        found.append(json.loads("".join(call.arguments for call in calls)))
        jsonschema.validate(found[-1], SCHEMA)
    assert found[0] == found[1]


def test_an_echoed_prompt_has_its_logprobs(torch_worker: WorkerProcess, llama_worker: WorkerProcess) -> None:
    request = Generate(
        200, prompt="The capital of France is Paris.", sampling=GREEDY, max_tokens=1, logprobs=1, echo=True
    )
    found = []
    for worker in (torch_worker, llama_worker):
        deltas, _ = worker.collect(request)[(200, 0)]
        notes = [note for delta in deltas for note in delta.logprobs or []]
        found.append([(note.token_id, note.logprob) for note in notes])
    assert found[0][0][1] is None and [one[0] for one in found[0]] == [one[0] for one in found[1]]
    for (_, ours), (_, theirs) in zip(found[0][1:-1], found[1][1:-1], strict=True):
        assert ours == pytest.approx(theirs, abs=0.5)


def test_a_node_launches_a_folder_and_quantizes_it(tmp_path: Path) -> None:
    folder = write_chain(tmp_path / "chain")
    with LiveNode(tmp_path / "home") as node:
        whole = node.launch(str(folder), model_uid="whole", context_length=256)
        small = node.launch(str(folder), model_uid="small", quantization="8-bit", context_length=256)
        told = {one["id"]: one for one in node.http.get("/v1/models").json()["data"]}
        assert (told[small]["model_engine"], told[small]["quantization"]) == ("transformers", "8-bit")
        for uid in (whole, small):
            question = {
                "model": uid,
                "messages": [{"role": "user", "content": "?"}],
                "max_tokens": 16,
                "temperature": 0,
            }
            answer = node.http.post("/v1/chat/completions", json=question).json()
            assert answer["choices"][0]["message"]["content"] == CHAIN[:13]  # é is two tokens, 世 three
            assert answer["usage"]["completion_tokens"] == 16


def test_a_node_reranks_for_the_clients_that_are_there(tmp_path: Path) -> None:
    tiny_encoder.write(tmp_path / "scores", labels=1)
    documents = ["a cat sat", "it rains", "no"]
    with LiveNode(tmp_path / "home") as node:
        uid = node.launch(str(tmp_path / "scores"), model_uid="scores")
        assert node.http.get(f"/v1/models/{uid}").json()["model_type"] == "rerank"
        model = RESTfulClient(node.url).get_model(uid)
        told = model.rerank(documents, "what is a cat", top_n=2, return_documents=True, return_len=True)
        found = told["results"]
        assert len(found) == 2 and found[0]["relevance_score"] >= found[1]["relevance_score"]
        assert all(one["document"]["text"] == documents[one["index"]] for one in found)
        assert told["meta"]["tokens"]["input_tokens"] == told["usage"]["prompt_tokens"] > 30
        refused = node.http.post("/v1/chat/completions", json={"model": uid, "messages": "hi"})
        assert refused.status_code == 400
