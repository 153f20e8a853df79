"""Models that users register: in the catalogue's schema or Xinference's, kept over restarts, refused by name."""

from __future__ import annotations

import json

import pytest
from weight_stores import put

from xin.catalog import registered
from xin.catalog.spec import families
from xin.errors import BadRequest, Conflict, ModelNotFound, UnsupportedParameter
from xin.node.local_models import known_models
from xin.node.registration import family_of_text
from xin.node.resolve import resolve

STYLE = {"style_name": "ADD_COLON_SINGLE", "roles": ["user", "assistant"], "intra_message_sep": "\n"}
XINFERENCE = {
    "version": 1,
    "model_name": "mine",
    "model_lang": ["en"],
    "model_ability": ["chat"],
    "context_length": 2048,
    "model_specs": [
        {
            "model_format": "ggufv2",
            "model_size_in_billions": "1_8",
            "quantizations": ["Q4_0", "Q8_0"],
            "model_id": "org/mine-GGUF",
            "model_file_name_template": "mine.{quantization}.gguf",
        },
        {"model_format": "pytorch", "model_size_in_billions": 7, "quantizations": ["none"], "model_id": "org/mine"},
    ],
    "prompt_style": STYLE,
    "stop": ["</s>"],
}
OURS = """
name = "own"
description = "a file of mine"
[[variants]]
format = "gguf"
engine = "llama.cpp"
quantization = "Q8_0"
source = { kind = "file", path = "%s" }
"""


def changed(**fields):
    return json.dumps({**XINFERENCE, **fields})


def of_spec(**fields):
    return changed(model_specs=[{**XINFERENCE["model_specs"][0], **fields}])


def test_one_entry_may_stand_for_several_quantizations():
    several = OURS.replace('quantization = "Q8_0"', 'quantizations = ["Q4_K_M", "Q8_0"]')
    source = '{ kind = "huggingface", repo = "org/own-GGUF", file = "own-{quantization_lower}.gguf" }'
    family = family_of_text(several.replace('{ kind = "file", path = "%s" }', source))
    told = [(one.quantization, one.source.file) for one in family.variants]
    assert told == [("Q4_K_M", "own-q4_k_m.gguf"), ("Q8_0", "own-q8_0.gguf")]


def test_xinference_json_becomes_a_family():
    family = family_of_text(json.dumps(XINFERENCE))
    assert (family.name, family.languages, family.abilities, family.context_length) == ("mine", ["en"], ["chat"], 2048)
    assert family.prompt_style == {**STYLE, "stop": ["</s>"]}
    told = [(v.format, v.engine, v.quantization, v.size_in_billions, v.source.file) for v in family.variants]
    assert told == [
        ("gguf", "llama.cpp", "Q4_0", 1.8, "mine.Q4_0.gguf"),
        ("gguf", "llama.cpp", "Q8_0", 1.8, "mine.Q8_0.gguf"),
        ("pytorch", "transformers", "none", 7.0, ""),
    ]


@pytest.mark.parametrize(
    ("text", "param"),
    [
        (changed(chat_template="{{ x }}"), "chat_template"),
        (changed(tool_parser="qwen"), "tool_parser"),
        (changed(model_ability=["vision"]), "model_ability"),
        (changed(prompt_style=None), "stop"),
        (of_spec(model_format="ggmlv3"), "model_specs[0].model_format"),
        (of_spec(model_hub="modelscope"), "model_specs[0].model_hub"),
        (of_spec(activated_size_in_billions=2), "model_specs[0].activated_size_in_billions"),
        (of_spec(model_uri="s3://bucket/x"), "model_specs[0].model_uri"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(text, param):
    with pytest.raises(UnsupportedParameter) as caught:
        family_of_text(text)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "name = ", "[" * 100_000, '{"a":' * 100_000, "name = 'x'", "\0"),
        of_spec(model_id="../../etc"),
        of_spec(model_size_in_billions="big"),
        of_spec(quantizations=7),
        changed(model_name=7),
        OURS % "relative.gguf",
    ],
)
def test_what_is_no_family_is_a_400(text):
    with pytest.raises(BadRequest):
        family_of_text(text)


def test_a_registered_model_is_launched_like_any_other(tmp_path):
    path = put(tmp_path / "x.gguf")
    registered.register(family_of_text(OURS % path))
    registered.register(family_of_text(json.dumps(XINFERENCE)))
    assert resolve("own").weights == [str(path)]
    assert "own" in {model.model_name for model in known_models([])}
    spec = resolve("mine", size="1.8")
    assert spec.fetch is not None and (spec.fetch.repo, spec.fetch.files) == ("org/mine-GGUF", ["mine.Q4_0.gguf"])
    path.unlink()
    with pytest.raises(ModelNotFound, match="are not at"):
        resolve("own")


def test_registrations_outlive_the_process_and_bad_files_do_not_matter(tmp_path):
    registered.register(family_of_text(OURS % (tmp_path / "x.gguf")))
    (registered.folder() / "bad.json").write_text("{")
    (registered.folder() / "smollm2.json").write_bytes((registered.folder() / "own.json").read_bytes())
    registered._forget()
    assert set(registered.registered_families()) == {"own"} and "own" in families()
    registered.unregister("own")
    assert "own" not in families() and not (registered.folder() / "own.json").exists()
    with pytest.raises(ModelNotFound):
        registered.unregister("own")


def test_built_in_names_are_taken():
    for name in ("smollm2", "SmolLM2"):
        with pytest.raises(Conflict, match="built-in"):
            registered.register(family_of_text(changed(model_name=name)))
    with pytest.raises(Conflict):
        registered.unregister("smollm2")
    for name in ("../up", "a/b", ".hidden", ""):
        with pytest.raises(BadRequest):
            registered.register(family_of_text(changed(model_name=name)))
