"""Images on the transformers engine, on a tiny LLaVA: as the model itself reads them, cached as a whole, counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_causal
import tiny_llava
from made_up_images import noise
from test_projector import TEXT, answer, answers, chat, close, likely, request

from xin.backends.base import Weights
from xin.errors import BadRequest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava.write(tmp_path_factory.mktemp("llava"))


def load(folder: Path, **options: Any) -> Any:
    from xin.backends.transformers.engine import TransformersEngine

    given = {"context_length": 512, "n_parallel": 4, "threads": 1, **options}
    made = TransformersEngine.Options(**given)
    return TransformersEngine.load(Weights([str(folder)], "tiny"), made, lambda fraction, stage: None)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    made = load(folder)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def forgotten(engine: Any) -> None:
    engine._scheduler._cache._parked.clear()


def test_it_says_that_it_takes_images_and_another_does_not(engine: Any, tmp_path: Path) -> None:
    assert engine.describe().abilities == ["chat", "generate", "embed", "vision"]
    blind = load(tiny_causal.write(tmp_path / "llama"))
    assert "vision" not in blind.describe().abilities
    blind.close()


def test_what_it_says_is_what_the_model_says(engine: Any, folder: Path) -> None:
    """Against the model's own forward pass, over what its own processor makes of the same messages."""
    import io

    import torch
    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    messages = [{"role": "user", "content": [{"type": "text", "text": TEXT}, {"type": "image"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(text=[text], images=[Image.open(io.BytesIO(noise(1))).convert("RGB")], return_tensors="pt")
    tokens, seen = engine.look(chat(TEXT, noise(1)), {})
    assert seen is not None
    assert seen.images.ids(tokens) == inputs["input_ids"][0].tolist()
    with torch.inference_mode():
        expected = torch.log_softmax(model(**inputs).logits[0, -1], -1)
    outputs = answer(engine, chat(TEXT, noise(1)))
    first = (outputs[0].logprobs or [])[0]
    assert first.token_id == int(expected.argmax())
    assert first.logprob == pytest.approx(float(expected.max()), abs=1e-4)


def test_an_image_changes_the_answer_and_the_same_one_does_not(engine: Any) -> None:
    first = answer(engine, chat(TEXT, noise(1)))
    engine._scheduler._cache._parked.clear()
    assert close(answer(engine, chat(TEXT, noise(1))), first)
    for other in (chat(TEXT, noise(2)), chat(TEXT), chat(TEXT, noise(1), noise(2))):
        assert abs(likely(answer(engine, other))[0][1] - likely(first)[0][1]) > 1e-4


def test_its_tokens_are_counted(engine: Any) -> None:
    tokens, seen = engine.look(chat(TEXT, noise(1), "and on this?", noise(2)), {})
    assert sum(token < 0 for token in tokens) == 2 * tiny_llava.TOKENS
    first, last = seen.images.span(tokens)
    assert last - first == 2 * tiny_llava.TOKENS + len(b"\nand on this?")


def test_a_follow_up_is_read_from_the_cache_and_another_image_is_not(engine: Any) -> None:
    answer(engine, chat(TEXT, noise(1)))
    said = {"role": "assistant", "content": "I see squares"}
    follow_up = request(engine, chat("go on", before=[*chat(TEXT, noise(1)), said]))
    last = follow_up.seen.images.span(follow_up.tokens)[1]  # type: ignore[union-attr]
    (cached,) = answers(engine, follow_up)
    assert cached[0].cached_tokens >= last
    engine._scheduler._cache._parked.clear()
    assert close(answer(engine, chat("go on", before=[*chat(TEXT, noise(1)), said])), cached)
    changed = request(engine, chat("go on", before=[*chat(TEXT, noise(2)), said]))
    first = changed.seen.images.span(changed.tokens)[0]  # type: ignore[union-attr]
    (fresh,) = answers(engine, changed)
    assert fresh[0].cached_tokens <= first


def test_streams_with_and_without_images_do_not_mix(engine: Any) -> None:
    asked = [chat(TEXT, noise(1)), chat("a text of its own"), chat(TEXT, noise(2)), chat("two:", noise(1), noise(3))]
    alone = []
    for messages in asked:
        engine._scheduler._cache._parked.clear()
        alone.append(answer(engine, messages))
    engine._scheduler._cache._parked.clear()
    together = answers(engine, *(request(engine, messages) for messages in asked))
    assert all(close(ours, theirs) for ours, theirs in zip(together, alone, strict=True))
    (outputs,) = answers(engine, request(engine, asked[0], n=3))
    assert close([output for output in outputs if output.index == 2], alone[0])


def test_repetition_is_judged_over_words_not_images(engine: Any) -> None:
    from dataclasses import replace

    from xin.worker.frames import Sampling

    sampling = Sampling(temperature=0.0, repeat_penalty=1.3, ignore_eos=True)
    (outputs,) = answers(engine, replace(request(engine, chat(TEXT, noise(1))), sampling=sampling))
    assert len(outputs) == 12


def test_bytes_that_are_no_image_are_named(engine: Any) -> None:
    with pytest.raises(BadRequest, match="cannot be decoded") as raised:
        engine.look(chat(TEXT, noise(1)[:60]), {})
    assert raised.value.param == "messages[0].content[1].image_url.url"


def test_a_cancelled_one_leaves_nothing(engine: Any) -> None:
    one = request(engine, chat(TEXT, noise(1)), max_tokens=100)
    engine.submit(one)
    engine.step()
    engine.cancel(one.id)
    assert not engine.busy()
