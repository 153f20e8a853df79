"""GGUFs that are damaged or meant ill: refused with a reason, by a child, in bounded time; the node is not at risk."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest
import tiny_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xin.backends.llama_cpp.dry_run_words import ModelSize, Question
from xin.node.dry_runs import DryRuns, dry_run

pytest.importorskip("llama_cpp")
UINT32, STRING, ARRAY, UINT64 = 4, 8, 9, 10
ALIGNMENT = 32


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(tensors: int, pairs: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: bytes, shape: list[int], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, offset)


def nested(depth: int) -> bytes:
    """Arrays in arrays."""
    return struct.pack("<IQ", ARRAY, 1) * depth + struct.pack("<IQ", UINT32, 0)


ARCHITECTURE = pair(b"general.architecture", STRING, text(b"llama"))
HOSTILE: dict[str, bytes] = {
    "nothing after the magic": b"GGUF",
    "text": b"It was a dark and stormy night. " * 40,
    "2^60 tensors": header(2**60, 0),
    "2^60 pairs": header(0, 2**60),
    "2^64 - 1 of both": header(2**64 - 1, 2**64 - 1),
    "a key of 2^60 bytes": header(0, 1, struct.pack("<Q", 2**60) + b"key"),
    "a string of 2^63 bytes": header(0, 1, text(b"general.architecture") + struct.pack("<IQ", STRING, 2**63)),
    "an array of 2^60": header(0, 1, pair(b"a", ARRAY, struct.pack("<IQ", UINT64, 2**60))),
    "an array of 2^40 strings": header(0, 1, pair(b"a", ARRAY, struct.pack("<IQ", STRING, 2**40))),
    "arrays in arrays": header(0, 1, pair(b"a", ARRAY, nested(1000))),
    "no such type": header(0, 1, pair(b"a", 77, b"")),
    "a version of the future": header(0, 0, version=2**31),
    "the same key twice": header(0, 2, ARCHITECTURE * 2),
    "an architecture that is none": header(0, 1, pair(b"general.architecture", STRING, text(b"no-such"))),
    "an alignment of zero": header(0, 2, ARCHITECTURE + pair(b"general.alignment", UINT32, struct.pack("<I", 0))),
    "a tensor beyond the file": header(1, 1, ARCHITECTURE + tensor(b"t", [4096, 4096], offset=0)),
    "a tensor of 2^62": header(1, 1, ARCHITECTURE + tensor(b"t", [2**31, 2**31])),
    "dimensions that overflow": header(1, 1, ARCHITECTURE + tensor(b"t", [2**40, 2**40, 2**40])),
    "five dimensions": header(1, 1, ARCHITECTURE + tensor(b"t", [1] * 5)),
    "2^32 - 1 dimensions": header(1, 1, ARCHITECTURE + text(b"t") + struct.pack("<I", 2**32 - 1)),
    "no such tensor type": header(1, 1, ARCHITECTURE + tensor(b"t", [32], kind=999)),
    "an odd offset": header(1, 1, ARCHITECTURE + tensor(b"t", [32], offset=7) + bytes(256)),
    "no tensors": header(0, 1, ARCHITECTURE),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny_gguf.write("llama", tmp_path_factory.mktemp("whole") / "whole.gguf").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def run(folder: Path, contents: list[bytes]) -> list[ModelSize]:
    """One child for as many as it survives."""
    questions = []
    for index, content in enumerate(contents):
        path = folder / f"{index}.gguf"
        path.write_bytes(content)
        questions.append(Question(path=str(path), options=[{"context_length": 512, "n_parallel": 1}]))
    answers: list[ModelSize] = []
    while len(answers) < len(questions):
        told = asyncio.run(dry_run(questions[len(answers) :], wall_seconds=60))
        died = next((index for index, size in enumerate(told) if "process that read it" in (size.error or "")), None)
        answers += told if died is None else told[: died + 1]
        assert told, "a child that answers nothing"
    return answers


def check(answers: list[ModelSize]) -> None:
    """Whatever became of it is told: bytes, or a reason."""
    for size in answers:
        if size.error is None:
            assert size.weights_bytes >= 0 and all(one.error or one.compute_bytes for one in size.contexts)
        else:
            assert len(size.error) > 10 and size.hint and size.code in ("load_failed", "out_of_memory")


def test_what_is_meant_ill_is_refused_with_a_reason(folder: Path):
    answers = run(folder, list(HOSTILE.values()))
    for name, size in zip(HOSTILE, answers, strict=True):
        assert size.error, name
    check(answers)


def test_a_file_that_was_cut_off_anywhere_is_refused(folder: Path, whole: bytes):
    ends = [len(whole) * part // 40 for part in range(40)]
    ends += [5, 8, 12, 20, 24, 30, 60, len(whole) - 1, len(whole) - ALIGNMENT - 1]
    answers = run(folder, [whole[:end] for end in ends])
    assert all(size.error for size in answers)
    check(answers)
    assert run(folder, [whole])[0].error is None


def header_length(data: bytes) -> int:
    """Where the tensors' bytes begin, about."""
    return data.rindex(b"blk.3.", 0, 40_000) + 64


_NUMBERS = st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63, 2**64 - 1])


def mutated(data: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    """`changes`: what is done at which part of the header, with which number."""
    made, length = bytearray(data), header_length(data)
    for what, where, number in changes:
        at = int(where * (length - 9))
        if what == "byte":
            made[at] = number & 0xFF
        elif what == "number":
            made[at : at + 8] = struct.pack("<Q", number)
        elif what == "remove":
            del made[at : at + 1 + number % 64]
        else:
            made[at:at] = bytes(1 + number % 64)
    return bytes(made)


_CHANGES = st.lists(
    st.tuples(st.sampled_from(["byte", "number", "remove", "insert"]), st.floats(0, 1), st.integers(0, 255) | _NUMBERS),
    min_size=1,
    max_size=3,
)


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(batch=st.lists(_CHANGES, min_size=40, max_size=60))
def test_mutated_headers(folder: Path, whole: bytes, batch: list[list[tuple[str, float, int]]]):
    check(run(folder, [mutated(whole, changes) for changes in batch]))


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batch=st.lists(_CHANGES, min_size=60, max_size=100), architecture=st.sampled_from(["mamba", "deepseek2", "bert"])
)
def test_mutated_headers_of_other_shapes(folder: Path, batch: list[list[tuple[str, float, int]]], architecture: str):
    data = tiny_gguf.write(architecture, folder / "source.gguf").read_bytes()
    check(run(folder, [mutated(data, changes) for changes in batch]))


async def test_a_child_that_takes_too_long_is_ended(smollm2: Path):
    [size] = await dry_run([Question(path=str(smollm2), options=[{}])], wall_seconds=0.05)
    assert size.error and "too long" in size.error
    runs = DryRuns()
    with pytest.raises(FileNotFoundError):
        await runs.sizes(str(smollm2) + ".none", [{}])
    await runs.close()
