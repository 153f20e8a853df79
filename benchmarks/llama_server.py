"""llama.cpp's own HTTP server, from the xllamacpp wheel, in a process of its own; prints `listening URL` when ready."""

from __future__ import annotations

import argparse
import sys

import xllamacpp


def main() -> None:
    options = _options()
    server = xllamacpp.Server(_params(options))
    print(f"listening {server.listening_address}", flush=True)
    sys.stdin.read()  # the benchmark closes stdin to end this process


def _params(options: argparse.Namespace) -> xllamacpp.CommonParams:
    """What `llama-server -c -b -ub -np -t -tb -ngl 0` would set; all else is its default (prompt cache on, f16 KV)."""
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_ctx = options.context
    params.n_batch = options.batch
    params.n_ubatch = options.ubatch
    params.n_parallel = options.parallel
    params.cont_batching = True
    params.cache_prompt = True
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_gpu_layers = 0
    params.flash_attn_type = xllamacpp.llama_flash_attn_type(options.flash_attention)
    params.fit_params = False
    params.ui = False
    params.verbosity = 1
    return params


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--context", type=int, default=8192, help="tokens of all slots together")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--ubatch", type=int, default=512)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--flash-attention", type=int, choices=(0, 1), default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
