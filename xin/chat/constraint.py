"""Constrained decoding: a JSON schema, regex or grammar as a mask over the logits of each token, by llguidance."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from xin.chat.schema import PARAM, closed, parse_schema
from xin.errors import BadRequest, InternalError, UnsupportedParameter
from xin.worker.frames import Constraint

MAX_CHARS = 128 * 1024
# llguidance recurses over chains of rules: a deep one needs more than a thread's usual 8 MB (macOS: 0.5 MB).
STACK_BYTES = 64 * 1024 * 1024
SLOW_MASK_SECONDS = 1.0
# A tenth of llguidance's own: a regex that needs more is found out after 0.1 s, and real schemas need far less.
LEXER_FUEL = 100_000
CACHED = 32

# One line, spaced as json.dumps does: white space that is left open is where a small model stalls.
# A schema may ask for another style in llguidance's own `x-guidance`.
JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_STRICT = {"lenient": False}

_UNIMPLEMENTED = re.compile(r"Unimplemented keys: \[(.*)\]")
_stack_lock = threading.Lock()

Logits = NDArray[np.float32]


class ConstraintFactory:
    """Compiles constraints for one vocabulary. Thread-safe; llguidance's view of the vocabulary is built on first use.

    `pieces`: each token's bytes (empty for unused ids). `eos_ids`: tokens that end an answer. `tokenize`: text to ids
    without special ones.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        *,
        eos_ids: Sequence[int],
        tokenize: Callable[[bytes], list[int]],
        special_ids: Sequence[int] = (),
        bos_id: int | None = None,
    ) -> None:
        self._vocabulary = _Vocabulary(list(pieces), list(eos_ids), bos_id, list(special_ids), tokenize)
        self._tokenizer: Any = None
        self._lock = threading.Lock()
        self._compiled: OrderedDict[Constraint, CompiledConstraint] = OrderedDict()

    def warm(self) -> None:
        """Build now what the first compile would (0.2 s for 49k tokens, some of it holding the GIL)."""
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = self._vocabulary.build()

    def compile(self, constraint: Constraint) -> CompiledConstraint:
        """BadRequest (param `response_format`) when the constraint is malformed, unsupported or too complex."""
        self.warm()
        with self._lock:
            if known := self._compiled.get(constraint):
                self._compiled.move_to_end(constraint)
                return known
        compiled = CompiledConstraint(self._matcher(constraint), len(self._vocabulary.tokens))
        with self._lock:
            self._compiled[constraint] = compiled
            if len(self._compiled) > CACHED:
                self._compiled.popitem(last=False)
        return compiled

    def _matcher(self, constraint: Constraint) -> Any:
        if len(constraint.text) > MAX_CHARS:
            message = f"{constraint.kind} of {len(constraint.text):,} characters"
            raise BadRequest(message, f"at most {MAX_CHARS:,} are taken", param=PARAM)
        return _on_deep_stack(lambda: _build(constraint, self._tokenizer))


class CompiledConstraint:
    """A constraint ready for use; give each choice its own matcher()."""

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._size = vocabulary_size

    def matcher(self) -> Matcher:
        return Matcher(self._matcher.deep_copy(), self._size)


class Matcher:
    """Where one answer stands. Per token: apply() before sampling, accept() after. One thread at a time."""

    __slots__ = ("_bits", "_bytes", "_matcher", "_octets", "_pointer", "_size")

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._size = vocabulary_size
        self._bits = np.zeros((vocabulary_size + 31) // 32, np.int32)
        self._pointer = self._bits.ctypes.data
        self._bytes = self._bits.nbytes
        self._octets = self._bits.view(np.uint8)

    def apply(self, logits: Logits) -> None:
        """Set the logits of all tokens that may not come next to -inf, in place."""
        self._matcher.unsafe_compute_mask_ptr(self._pointer, self._bytes)
        if self._matcher.is_error():
            raise _runtime_error(self._matcher)
        row = logits[: self._size]
        np.add(row, _scratch.penalties(self._octets)[: len(row)], out=row)
        logits[self._size :] = -np.inf

    def accept(self, token_id: int) -> None:
        """The token that was sampled; also takes the end-of-answer token where the text may end."""
        if not self._matcher.consume_token(token_id):
            raise _runtime_error(self._matcher)

    def accepting(self) -> bool:
        """The text may end here."""
        return bool(self._matcher.is_accepting())

    def finished(self) -> bool:
        """The text is complete: nothing but the end may follow."""
        return bool(self._matcher.is_stopped())

    def copy(self) -> Matcher:
        """An independent matcher that stands at the same place."""
        return Matcher(self._matcher.deep_copy(), self._size)


class _Scratch(threading.local):
    """Room to spread one mask out, by its length: made once a thread, shared by all its matchers."""

    def __init__(self) -> None:
        self._rooms: dict[int, tuple[NDArray[np.intp], Logits, Logits]] = {}

    def penalties(self, octets: NDArray[np.uint8]) -> Logits:
        """0 for each bit that is set, else -inf; good until the next call."""
        if (room := self._rooms.get(len(octets))) is None:
            rows = np.empty((len(octets), 8), np.float32)
            room = self._rooms[len(octets)] = np.empty(len(octets), np.intp), rows, rows.reshape(-1)
        indices, rows, flat = room
        np.copyto(indices, octets)
        np.take(_PENALTIES, indices, axis=0, out=rows, mode="clip")
        return flat


class _Vocabulary:
    """What llguidance reads of a tokenizer; the attribute names are its own."""

    def __init__(
        self,
        tokens: list[bytes],
        eos_ids: list[int],
        bos_id: int | None,
        special_ids: list[int],
        tokenize: Callable[[bytes], list[int]],
    ) -> None:
        self.tokens = tokens
        self.eos_ids = eos_ids
        self.eos_token_id = eos_ids[0]
        self.bos_token_id = bos_id
        self.special_token_ids = special_ids
        self._tokenize = tokenize

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenize(text)

    def build(self) -> Any:
        """In two steps, as each holds the GIL: other threads get a turn between them."""
        from llguidance import LLTokenizer, TokenizerWrapper

        plain = LLTokenizer(TokenizerWrapper(self), eos_token=self.eos_ids, slices=[])
        time.sleep(0.01)
        return plain.with_slices(LLTokenizer.json_slices())


def _build(constraint: Constraint, tokenizer: Any) -> Any:
    """A matcher whose first mask is computed, so that what is slow or too complex shows here."""
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(initial_lexer_fuel=LEXER_FUEL, verbose_errors=False)
    matcher = LLMatcher(tokenizer, _grammar(constraint), log_level=0, limits=limits)
    if matcher.is_error():
        raise _refused(constraint.kind, matcher.get_error())
    began = time.perf_counter()
    mask = np.frombuffer(matcher.compute_bitmask(), np.uint8)
    took = time.perf_counter() - began
    allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little"))
    # A lexer that gave up lets a token through that it then refuses.
    if took > SLOW_MASK_SECONDS or not len(allowed) or not matcher.deep_copy().consume_token(int(allowed[0])):
        raise BadRequest(f"the {constraint.kind} is too complex", "repeat less, or nest less deeply", param=PARAM)
    return matcher


def _grammar(constraint: Constraint) -> str:
    """llguidance's own form of a constraint."""
    from llguidance import LLMatcher

    match constraint.kind:
        case "json_object":
            return str(LLMatcher.grammar_from_json_schema('{"type":"object"}', defaults=JSON_STYLE))
        case "json_schema":
            return _json_grammar(constraint.text)
        case "regex":
            return str(LLMatcher.grammar_from_regex(constraint.text))
        case "grammar":
            return _lark(constraint.text)
    raise BadRequest(f"unknown kind of constraint {constraint.kind!r}", param=PARAM)


def _json_grammar(text: str) -> str:
    from llguidance import LLMatcher

    schema = parse_schema(text)
    style = {} if "x-guidance" in schema else JSON_STYLE
    for candidate in (closed(schema), schema):
        grammar = str(LLMatcher.grammar_from_json_schema(_as_text(candidate), defaults=style, overrides=_STRICT))
        if not LLMatcher.validate_grammar_with_warnings(grammar)[0]:
            return grammar
    return grammar


def _as_text(schema: dict[str, Any]) -> str:
    return msgspec.json.encode(schema).decode()


def _lark(text: str) -> str:
    if "::=" not in text:
        return text
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        return str(gbnf_to_lark(text))
    except Exception as exc:  # the converter raises Exception itself
        raise BadRequest(f"the GBNF grammar is malformed: {exc}", param=PARAM) from exc


def _refused(kind: str, error: str) -> BadRequest:
    if found := _UNIMPLEMENTED.search(error):
        return UnsupportedParameter(f"the JSON schema uses {found[1]}, which cannot be enforced here", param=PARAM)
    if "oneOf constraints are not supported" in error:
        message = "the JSON schema uses oneOf with alternatives that overlap"
        return UnsupportedParameter(message, "use anyOf, or a constant that tells them apart", param=PARAM)
    reason = " ".join(error.partition("\n<state>")[0].split())
    return BadRequest(f"malformed {kind}: {reason[:500]}", param=PARAM)


def _runtime_error(matcher: Any) -> BadRequest | InternalError:
    error = " ".join(str(matcher.get_error()).split())[:300]
    if "TooComplex" in str(matcher.stop_reason()) or "too many expressions" in error:
        return BadRequest("the constraint became too complex to follow", "simplify it", param=PARAM)
    return InternalError(f"the constraint cannot go on: {error}")


def _on_deep_stack(work: Callable[[], Any]) -> Any:
    result: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as exc:  # a panic in Rust is one, and must not end the caller's thread
            failure.append(exc)

    with _stack_lock:
        before = threading.stack_size(STACK_BYTES)
        try:
            thread = threading.Thread(target=run, name="xin-compile")
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if failure and isinstance(failure[0], Exception):
        raise failure[0]
    if failure:
        raise BadRequest(f"the constraint cannot be compiled: {failure[0]}"[:500], param=PARAM) from failure[0]
    return result[0]


# For each value of a mask's byte, what is added to its eight logits.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_PENALTIES: Logits = np.where(_BITS == 1, 0, -np.inf).astype(np.float32)
_scratch = _Scratch()
