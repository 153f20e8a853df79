"""Constraints on the real vocabulary: what they let through, what they refuse by name, and what a token costs."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from typing import Any

import jsonschema
import numpy as np
import pytest

from xin.chat.constraint import ConstraintFactory, Matcher
from xin.errors import BadRequest, InternalError, UnsupportedParameter
from xin.worker.frames import Constraint

POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer", "minimum": -10, "maximum": 10}, "y": {"type": "integer", "maximum": 9}},
    "required": ["x", "y"],
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "nested object": {
        "type": "object",
        "properties": {
            "person": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 30},
                    "address": {
                        "type": "object",
                        "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
                        "required": ["zip"],
                    },
                },
                "required": ["name", "address"],
            }
        },
        "required": ["person"],
    },
    "array": {"type": "array", "items": {"type": "string", "maxLength": 20}, "minItems": 1, "maxItems": 5},
    "enum and bounded integer": {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "green", 3, None]},
            "count": {"type": "integer", "minimum": 1, "maximum": 100},
        },
        "required": ["colour", "count"],
    },
    "pattern": {
        "type": "object",
        "properties": {
            "code": {"type": "string", "pattern": "^[A-Z]{2,4}-[0-9]{3}$"},
            "when": {"type": "string", "format": "date"},
        },
        "required": ["code"],
        "additionalProperties": False,
    },
    "$ref": {
        "$defs": {"point": POINT},
        "type": "object",
        "properties": {"start": {"$ref": "#/$defs/point"}, "end": {"$ref": "#/$defs/point"}},
        "required": ["start", "end"],
    },
}


def schema_of(schema: Any) -> Constraint:
    return Constraint("json_schema", json.dumps(schema))


def lets(factory: ConstraintFactory, vocabulary, constraint: Constraint, text: str) -> bool:
    """Whether the text may be generated, and may end there."""
    matcher = factory.compile(constraint).matcher()
    row = np.empty(len(vocabulary.pieces), np.float32)
    for token in vocabulary.tokenize(text.encode()):
        row[:] = 0
        matcher.apply(row)
        if not np.isfinite(row[token]):
            return False
        matcher.accept(token)
    return matcher.accepting()


def drawn(matcher: Matcher, vocabulary, seed: int, limit: int = 512) -> tuple[str, bool]:
    """A text of tokens drawn evenly from what is allowed: the worst model there is; and whether it ended."""
    rng = np.random.default_rng(seed)
    row = np.empty(len(vocabulary.pieces), np.float32)
    text = b""
    for _ in range(limit):
        row[:] = 0
        matcher.apply(row)
        token = int(rng.choice(np.flatnonzero(np.isfinite(row))))
        if token in (vocabulary.eos, 0):
            return text.decode(), True
        matcher.accept(token)
        text += vocabulary.pieces[token]
        if matcher.finished():
            return text.decode(), True
    return text.decode("utf-8", "replace"), False


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_hundred_random_texts_are_valid_and_end(factory, vocabulary, name: str) -> None:
    compiled = factory.compile(schema_of(SCHEMAS[name]))
    for seed in range(100):
        text, ended = drawn(compiled.matcher(), vocabulary, seed)
        assert ended, text
        jsonschema.validate(json.loads(text), SCHEMAS[name], format_checker=jsonschema.FormatChecker())


def test_json_is_spaced_one_way(factory, vocabulary) -> None:
    assert lets(factory, vocabulary, schema_of(POINT), '{"x": 1, "y": 2}')
    assert not lets(factory, vocabulary, schema_of(POINT), '{ "x": 1, "y": 2}')
    assert not lets(factory, vocabulary, schema_of(POINT), '{"x": 1,\n"y": 2}')
    flexible = schema_of(POINT | {"x-guidance": {"whitespace_flexible": True}})
    assert lets(factory, vocabulary, flexible, '{ "x": 1,\n"y": 2}')


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (POINT, '{"x": 1, "y": 2}', '{"x": 1, "y": 2, "z": 3}'),
        (POINT | {"additionalProperties": True}, '{"x": 1, "y": 2, "z": 3}', '{"x": 1}'),
        ({"allOf": [POINT, {"properties": {"z": {"type": "null"}}}]}, '{"x": 1, "y": 2, "z": null}', '{"x": 1}'),
        (
            {"properties": {"a": {"type": "null"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            '{"b": 1}',
            "{}",
        ),
        ({"properties": {"a": {"type": "null"}}, "required": ["b"], "type": "object"}, '{"b": 1}', "{}"),
        (
            {"$ref": "#/$defs/p", "required": ["z"], "$defs": {"p": {"properties": {"z": {"type": "null"}}}}},
            '{"z": null}',
            "{}",
        ),
        ({"anyOf": [POINT, {"type": "null"}]}, "null", "1"),
        ({"type": ["string", "null"], "maxLength": 2}, '"ab"', '"abc"'),
        ({"type": "array", "prefixItems": [{"type": "null"}], "items": False}, "[null]", "[null, 1]"),
        ({"type": "integer", "multipleOf": 3}, "9", "10"),
        ({"const": {"a": [1]}}, '{"a": [1]}', '{"a": []}'),
        (True, '{"a": 1}', "{"),
        ({}, "[1]", "]"),
    ],
)
def test_schemas(factory, vocabulary, schema: Any, good: str, bad: str) -> None:
    assert lets(factory, vocabulary, schema_of(schema), good)
    assert not lets(factory, vocabulary, schema_of(schema), bad)


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (Constraint("json_object"), '{"a": [1, {"b": null}]}', "[1]"),
        (Constraint("regex", "[a-z]+@[a-z]+"), "a@b", "a@"),
        (Constraint("regex", r"^\d{3}$"), "123", "1234"),
        (Constraint("grammar", 'start: "yes" | "no" " way"?'), "no way", "yes way"),
        (Constraint("grammar", 'root ::= item ("," item)*\nitem ::= [a-z]+'), "ab,c", "ab,"),
        (Constraint("regex", "[а-я]+"), "привет", "hello"),
    ],
)
def test_other_kinds(factory, vocabulary, constraint: Constraint, good: str, bad: str) -> None:
    assert lets(factory, vocabulary, constraint, good)
    assert not lets(factory, vocabulary, constraint, bad)


KEYWORDS = {
    "not": {"type": "null"},
    "if": {"type": "null"},
    "contains": {"type": "null"},
    "minContains": 1,
    "uniqueItems": True,
    "propertyNames": {"maxLength": 3},
    "dependentRequired": {"a": ["b"]},
    "dependentSchemas": {"a": {"type": "null"}},
    "dependencies": {"a": ["b"]},
    "unevaluatedProperties": False,
    "unevaluatedItems": False,
    "$dynamicRef": "#x",
    "$recursiveRef": "#",
}


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_keywords_that_cannot_be_enforced_are_named(factory, keyword: str) -> None:
    schema = {"type": "object", "properties": {"deep": {keyword: KEYWORDS[keyword]}}}
    with pytest.raises(UnsupportedParameter) as caught:
        factory.compile(schema_of(schema))
    assert f'"{keyword}"' in caught.value.message
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(
    ("constraint", "says"),
    [
        (Constraint("json_schema", "{"), "not JSON"),
        (Constraint("json_schema", "[" * 100_000), "not JSON"),
        (Constraint("json_schema", ""), "not JSON"),
        (schema_of([1]), "not an object"),
        (schema_of(False), "nothing can match"),
        (schema_of({"type": "foo"}), "foo"),
        (schema_of({"type": "integer", "minimum": 5, "maximum": 1}), "minimum"),
        (schema_of({"maxLength": -1}), "maxLength"),
        (schema_of({"enum": "x"}), "enum"),
        (schema_of({"type": "string", "format": "weird"}), "weird"),
        (schema_of({"type": "string", "pattern": "(("}), "unclosed group"),
        (schema_of({"$ref": "#/$defs/nope"}), "nope"),
        (schema_of({"$ref": "http://127.0.0.1/x"}), "127.0.0.1"),
        (schema_of({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "oneOf"),
        (Constraint("json_schema", '{"a":' * 3000 + "1" + "}" * 3000), "recursion|nested"),
        (schema_of({"description": "x" * 200_000}), "200,0"),
        (Constraint("regex", "[a-z"), "unclosed"),
        (Constraint("regex", "(?=x)y"), "look-around"),
        (Constraint("regex", "(a{1000}){1000}"), "too complex|too large|regex"),
        (Constraint("grammar", "start: nope"), "nope"),
        (Constraint("grammar", "what?"), "grammar"),
        (Constraint("grammar", "root ::= ["), "GBNF"),
        (Constraint("grammar", "root ::= nope"), "nope"),
        (Constraint("xml", ""), "xml"),
    ],
)
def test_malformed_constraints_are_400s_that_say_why(factory, constraint: Constraint, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as caught:
        factory.compile(constraint)
    assert caught.value.param == "response_format"
    assert len(caught.value.message) < 700
    assert "\n" not in caught.value.message


def test_a_long_chain_of_rules_does_not_overflow_the_stack(factory, vocabulary) -> None:
    count = 8_000
    rules = "\n".join(f"r{i}:r{i + 1}" for i in range(count))
    chain = Constraint("grammar", f'start: r0\n{rules}\nr{count}: "x"')
    assert lets(factory, vocabulary, chain, "x")
    terminals = "\n".join(f"R{i}:R{i + 1}" for i in range(count))
    assert lets(factory, vocabulary, Constraint("grammar", f'start: R0\n{terminals}\nR{count}: "x"'), "x")
    links = {f"r{i}": {"$ref": f"#/$defs/r{i + 1}"} for i in range(3000)}
    assert lets(factory, vocabulary, schema_of({"$ref": "#/$defs/r0", "$defs": links | {"r3000": {}}}), "1")


def test_where_an_answer_stands(factory, vocabulary) -> None:
    matcher = factory.compile(Constraint("regex", "ab?")).matcher()
    row = np.zeros(len(vocabulary.pieces) + 64, np.float32)
    matcher.apply(row)
    allowed = {vocabulary.pieces[i] for i in np.flatnonzero(np.isfinite(row))}
    assert allowed == {b"a", b"ab"}
    assert not matcher.accepting()
    matcher.accept(vocabulary.pieces.index(b"a"))
    assert matcher.accepting()
    assert not matcher.finished()
    twin = matcher.copy()
    matcher.accept(vocabulary.pieces.index(b"b"))
    assert matcher.finished()
    row[:] = 0
    matcher.apply(row)
    assert np.flatnonzero(np.isfinite(row)).tolist() == [0, vocabulary.eos]
    assert not twin.finished()
    twin.accept(vocabulary.eos)
    assert twin.finished()


def test_logits_keep_their_values(factory, vocabulary) -> None:
    row = np.random.default_rng(1).normal(size=len(vocabulary.pieces)).astype(np.float32)
    before = row.copy()
    factory.compile(Constraint("regex", "[a-z]+")).matcher().apply(row)
    kept = np.isfinite(row)
    assert 0 < kept.sum() < len(row)
    assert (row[kept] == before[kept]).all()
    assert not kept[vocabulary.special_ids].any()


def test_a_token_out_of_line_is_an_error(factory, vocabulary) -> None:
    matcher = factory.compile(Constraint("regex", "a")).matcher()
    with pytest.raises(InternalError):
        matcher.accept(vocabulary.pieces.index(b"b"))
    with pytest.raises(InternalError):
        matcher.apply(np.zeros(len(vocabulary.pieces), np.float32))


def test_what_turns_complex_after_the_first_token_is_refused_too(factory, vocabulary) -> None:
    grammar = 'start: "x" "!" "y" BIG\nBIG: /(a{1000}){1000}/'
    with pytest.raises(BadRequest, match="too complex") as caught:
        lets(factory, vocabulary, Constraint("grammar", grammar), "x!yaaaaaaaa")
    assert caught.value.param == "response_format"


def test_unused_ids_and_odd_sizes() -> None:
    pieces = [b"<eos>", b"a", b"", b"b", b"ab"]
    factory = ConstraintFactory(pieces, eos_ids=[0], tokenize=lambda text: [1] * len(text), special_ids=[0])
    row = np.zeros(7, np.float32)
    factory.compile(Constraint("regex", "[ab]+")).matcher().apply(row)
    assert np.flatnonzero(np.isfinite(row)).tolist() == [1, 3, 4]


def test_threads_may_compile_at_once(vocabulary) -> None:
    factory = ConstraintFactory(vocabulary.pieces, eos_ids=[vocabulary.eos], tokenize=vocabulary.tokenize)
    made = []
    threads = [
        threading.Thread(target=lambda i=i: made.append(factory.compile(Constraint("regex", f"a{{{i % 3 + 1}}}"))))
        for i in range(9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 9
    assert factory.compile(Constraint("regex", "a{1}")) is factory.compile(Constraint("regex", "a{1}"))


def test_a_token_costs_little_and_allocates_nothing(factory, vocabulary) -> None:
    schema = {"type": "array", "items": {"type": "string", "maxLength": 200}, "minItems": 3}
    compiled = factory.compile(schema_of(schema))
    text = vocabulary.tokenize(json.dumps(["the quick brown fox jumps over it", "and so on, it goes", "end"]).encode())
    row = np.zeros(len(vocabulary.pieces), np.float32)
    costs = []
    for _ in range(10):
        matcher = compiled.matcher()
        for token in text:
            row[:] = 0
            began = time.thread_time()
            matcher.apply(row)
            costs.append(time.thread_time() - began)
            matcher.accept(token)
    assert sorted(costs)[len(costs) // 2] < 0.35e-3
    tracemalloc.start()
    try:
        for _ in range(50):
            matcher.apply(row)
        assert tracemalloc.get_traced_memory()[1] < 2048
    finally:
        tracemalloc.stop()
