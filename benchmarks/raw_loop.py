"""The limit: a bare `llama_decode` loop with greedy choice, in a process of its own. One JSON line in, one out."""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from typing import Any

import llama_cpp as lib


class RawLoop:
    """One model, one context; every prompt is a sequence, all sequences step together."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._quiet = lib.llama_log_callback(lambda level, text, data: None)
        lib.llama_log_set(self._quiet, ctypes.c_void_p(0))
        lib.llama_backend_init()
        model_params = lib.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = lib.llama_model_load_from_file(options.model.encode(), model_params)
        params = lib.llama_context_default_params()
        params.n_ctx = options.context
        params.n_batch, params.n_ubatch = options.batch, options.ubatch
        params.n_seq_max = options.parallel
        params.n_threads = params.n_threads_batch = options.threads
        params.flash_attn_type = options.flash_attention
        self.context = lib.llama_init_from_model(self.model, params)
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.memory = lib.llama_get_memory(self.context)
        self.batch = lib.llama_batch_init(options.batch, 0, 1)
        self.batch_tokens = options.batch
        self.greedy = lib.llama_sampler_init_greedy()

    def generate(self, prompts: list[str], tokens: int) -> dict[str, Any]:
        """Prefill all prompts together, then `tokens` greedy tokens each; seconds from the start of each token."""
        lib.llama_memory_clear(self.memory, False)
        ids = [self.tokenize(prompt) for prompt in prompts]
        began = time.perf_counter()
        newest = self._prefill(ids)
        times = [time.perf_counter() - began]
        lengths = [len(sequence) for sequence in ids]
        for step in range(tokens - 1):
            self.batch.n_tokens = 0
            for index, token in enumerate(newest):
                self._add(token, lengths[index] + step, index, True)
            self._decode()
            newest = [lib.llama_sampler_sample(self.greedy, self.context, row) for row in range(len(ids))]
            times.append(time.perf_counter() - began)
        return {"times": times, "prompt_tokens": sum(lengths)}

    def follow_up(self, history: str, suffix: str, steps: int) -> dict[str, Any]:
        """Seconds to prefill `suffix` after `history` that is already held, and of `steps` steps after it."""
        past, whole = self.tokenize(history), self.tokenize(history + suffix)
        lib.llama_memory_clear(self.memory, False)
        self._prefill([past])
        new = whole[len(past) :]
        began = time.perf_counter()
        [token] = self._prefill([new], start=len(past))
        prefilled = time.perf_counter()
        for step in range(steps):
            self.batch.n_tokens = 0
            self._add(token, len(whole) + step, 0, True)
            self._decode()
            token = lib.llama_sampler_sample(self.greedy, self.context, 0)
        ended = time.perf_counter()
        return {"prefill": prefilled - began, "steps": ended - prefilled, "new_tokens": len(new)}

    def tokenize(self, text: str) -> list[int]:
        raw = text.encode()
        room = (lib.llama_token * (len(raw) + 8))()
        count = lib.llama_tokenize(self.vocab, raw, len(raw), room, len(room), True, True)
        return list(room[:count])

    def _prefill(self, sequences: list[list[int]], start: int = 0) -> list[int]:
        """All sequences, as many tokens a batch as it holds; gives the first new token of each."""
        newest = [0] * len(sequences)
        rows: list[tuple[int, int]] = []
        self.batch.n_tokens = 0
        for index, sequence in enumerate(sequences):
            for place, token in enumerate(sequence):
                last = place == len(sequence) - 1
                if last:
                    rows.append((index, self.batch.n_tokens))
                self._add(token, start + place, index, last)
                if self.batch.n_tokens == self.batch_tokens:
                    self._take(rows, newest)
        if self.batch.n_tokens:
            self._take(rows, newest)
        return newest

    def _take(self, rows: list[tuple[int, int]], newest: list[int]) -> None:
        self._decode()
        for index, row in rows:
            newest[index] = lib.llama_sampler_sample(self.greedy, self.context, row)
        rows.clear()
        self.batch.n_tokens = 0

    def _add(self, token: int, position: int, sequence: int, logits: bool) -> None:
        at = self.batch.n_tokens
        self.batch.token[at], self.batch.pos[at] = token, position
        self.batch.n_seq_id[at], self.batch.seq_id[at][0] = 1, sequence
        self.batch.logits[at] = logits
        self.batch.n_tokens = at + 1

    def _decode(self) -> None:
        if code := lib.llama_decode(self.context, self.batch):
            raise RuntimeError(f"llama_decode gave {code}")
        lib.llama_synchronize(self.context)


def main() -> None:
    loop = RawLoop(_options())
    print(json.dumps({"system": lib.llama_print_system_info().decode()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = loop.follow_up if request.pop("call") == "follow_up" else loop.generate
        print(json.dumps(answer(**request)), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--context", type=int, default=8192, help="tokens of all sequences together")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--ubatch", type=int, default=512)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--flash-attention", type=int, choices=(0, 1), default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
