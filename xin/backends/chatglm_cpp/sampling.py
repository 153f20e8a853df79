"""What of a request chatglm.cpp can honour; the rest is refused by name."""

from __future__ import annotations

from typing import Any

from xin.backends.base import Request
from xin.errors import UnsupportedParameter
from xin.worker.frames import Sampling

_UNSET = Sampling()
_LACKING = ("seed", "logit_bias", "min_p", "typical_p", "presence_penalty", "frequency_penalty", "ignore_eos")
_WHY = {
    "seed": "chatglm.cpp draws its own random numbers and cannot be given a seed",
    "logprobs": "chatglm.cpp tells the tokens that it chose, not their probabilities",
    "repeat_last_n": "chatglm.cpp counts repetitions over the whole text",
}


def check(request: Request, window: int) -> None:
    """Raise UnsupportedParameter for the first thing that would have to be ignored."""
    sampling = request.sampling
    for name in _LACKING:
        if getattr(sampling, name) != getattr(_UNSET, name):
            raise _refusal(name)
    if request.logprobs is not None or request.prompt_logprobs:
        raise _refusal("logprobs")
    penalised = sampling.repeat_penalty != 1 and sampling.repeat_last_n
    if penalised and sampling.repeat_last_n != _UNSET.repeat_last_n and sampling.repeat_last_n < window:
        raise _refusal("repeat_last_n")


def generation_config(sampling: Sampling) -> Any:
    """The library's own. It takes a top_p of 0 for none, where only the likeliest token is meant."""
    from chatglm_cpp._C import GenerationConfig

    return GenerationConfig(
        do_sample=sampling.temperature > 0 and sampling.top_p > 0,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repeat_penalty if sampling.repeat_last_n else 1.0,
    )


def _refusal(name: str) -> UnsupportedParameter:
    why = _WHY.get(name, f"chatglm.cpp has no {name}")
    return UnsupportedParameter(f"{name}: {why}", f"leave {name} out, or take a GGUF", param=name)
