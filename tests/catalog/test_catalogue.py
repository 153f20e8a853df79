"""The catalogue's data: every file by its schema, the families of 2023 complete, shapes against published counts."""

from __future__ import annotations

from fnmatch import fnmatchcase
from importlib import resources

import msgspec
import pytest

from xin.catalog import memory
from xin.catalog.spec import Variant, built_in_families, chat_sibling_of_file, family_of_file, read_family
from xin.errors import BadRequest

EN, ZH = ["en"], ["en", "zh"]
BASE, CHAT = ["embed", "generate"], ["embed", "chat"]
# The table that `xinference list --all` printed in August 2023, with the context lengths of its specs.
SEED = {
    "baichuan": (ZH, BASE, 4096),
    "baichuan-chat": (ZH, CHAT, 4096),
    "chatglm": (ZH, CHAT, 2048),
    "chatglm2": (ZH, CHAT, 8192),
    "chatglm2-32k": (ZH, CHAT, 32768),
    "falcon": (EN, BASE, 2048),
    "falcon-instruct": (EN, CHAT, 2048),
    "gpt-2": (EN, ["generate"], 1024),
    "internlm": (ZH, BASE, 8192),
    "internlm-chat": (ZH, CHAT, 4096),
    "internlm-chat-8k": (ZH, CHAT, 8192),
    "llama-2": (EN, BASE, 4096),
    "llama-2-chat": (EN, CHAT, 4096),
    "opt": (EN, BASE, 2048),
    "orca": (EN, CHAT, 2048),
    "qwen-chat": (ZH, CHAT, 2048),
    "starchat-beta": (EN, CHAT, 8192),
    "starcoder": (EN, ["generate"], 8192),
    "starcoderplus": (EN, BASE, 8192),
    "vicuna-v1.3": (EN, CHAT, 2048),
    "vicuna-v1.5": (EN, CHAT, 4096),
    "vicuna-v1.5-16k": (EN, CHAT, 16384),
    "wizardlm-v1.0": (EN, CHAT, 2048),
    "wizardmath-v1.0": (EN, CHAT, 2048),
}
# Of these the files of 2023 were ggmlv3 for llama.cpp.
WERE_GGMLV3 = {"baichuan", "gpt-2", "llama-2", "llama-2-chat", "orca", "starcoder", "vicuna-v1.3", "wizardlm-v1.0"}
LOADABLE = {
    ("gguf", "llama.cpp"),
    ("pytorch", "transformers"),
    ("ctranslate2", "faster-whisper"),
    ("ggml", "chatglm.cpp"),
    ("echo", "echo"),
}
# Billions of parameters as published, by size.
PUBLISHED = {
    "baichuan": {"7": 7.0, "13": 13.26},
    "chatglm2": {"6": 6.24},
    "deepseek-r1-distill-llama": {"8": 8.03, "70": 70.6},
    "deepseek-r1-distill-qwen": {"1.5": 1.78, "7": 7.62, "14": 14.8, "32": 32.8},
    "falcon": {"7": 7.22, "40": 41.8},
    "gemma-2": {"2": 2.61, "9": 9.24, "27": 27.2},
    "gemma-3": {"0.27": 0.268, "1": 1.0, "4": 3.88, "12": 11.8, "27": 27.0},
    "glm-4": {"9": 9.4, "32": 32.6},
    "gpt-2": {"0.124": 0.1244},
    "gpt-oss": {"20": 20.9, "120": 116.8},
    "granite-3": {"2": 2.53, "8": 8.17},
    "internlm": {"7": 7.32},
    "llama-2-chat": {"7": 6.74, "13": 13.02, "70": 68.98},
    "llama-3.1": {"8": 8.03, "70": 70.6},
    "llama-3.2": {"1": 1.24, "3": 3.21},
    "minilm": {"0.023": 0.0227},
    "ministral": {"8": 8.02},
    "mistral": {"7": 7.25},
    "mistral-nemo": {"12": 12.2},
    "mistral-small": {"24": 23.6},
    "nomic-embed": {"0.137": 0.1367},
    "opt": {"0.125": 0.1252},
    "orca": {"3": 3.43},
    "phi-4": {"14": 14.7},
    "phi-4-mini": {"3.8": 3.84},
    "qwen-chat": {"7": 7.72},
    "qwen2.5": {"0.5": 0.494, "1.5": 1.54, "3": 3.09, "7": 7.62, "14": 14.8, "32": 32.8, "72": 72.7},
    "qwen3": {"0.6": 0.596, "1.7": 1.72, "4": 4.02, "8": 8.19, "14": 14.8, "30": 30.5, "32": 32.8, "235": 235.1},
    "qwen3-embedding": {"0.6": 0.596, "4": 4.02, "8": 7.57},
    "smollm2": {"0.135": 0.1345, "0.36": 0.3618, "1.7": 1.711},
    "smollm3": {"3": 3.08},
    "starcoder": {"15.5": 15.52},
    "vicuna-v1.3": {"33": 32.5},
}
VARIANTS = [(name, variant) for name, family in built_in_families().items() for variant in family.variants]


def test_each_file_is_a_family_of_its_name():
    files = {file.name for file in resources.files("xin.catalog").iterdir() if file.name.endswith(".toml")}
    assert files == {f"{name}.toml" for name in built_in_families()}
    assert len({name.lower() for name in built_in_families()}) == len(files)  # none is read over another


@pytest.mark.parametrize("name", SEED)
def test_the_families_of_2023(name: str):
    family = built_in_families()[name]
    assert (family.languages, family.abilities, family.context_length) == SEED[name]
    assert any((one.format, one.engine) in LOADABLE and one.source.repo for one in family.variants)
    assert not any("ggmlv3" in one.source.file for one in family.variants)
    assert ("ggmlv3" in " ".join(family.notes)) == (name in WERE_GGMLV3)


def test_every_variant_can_be_fetched_and_planned():
    for name, one in VARIANTS:
        assert (one.format, one.engine) in LOADABLE, name
        if one.source.kind == "built-in" or one.format == "ctranslate2":  # weights alone count: nothing is kept
            continue
        assert f"{one.size_in_billions:g}" in built_in_families()[name].shapes, name
        assert one.kv_bytes_per_token > 0, name
        if one.source.kind == "huggingface":
            assert one.source.repo.count("/") == 1 and one.source.revision == one.source.revision.strip(), name
            assert bool(one.source.file) == (one.format != "pytorch"), name
            assert "{" not in one.source.file, name


def test_no_variant_stands_twice():
    for name, family in built_in_families().items():
        keys = [(one.format, one.size_in_billions, one.quantization, one.source.kind) for one in family.variants]
        assert len(set(keys)) == len(keys), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_give_the_published_number_of_parameters(name: str):
    shapes = built_in_families()[name].shapes
    counted = {size: memory.parameters(shapes[size]) / 1e9 for size in PUBLISHED[name]}
    assert counted == pytest.approx(PUBLISHED[name], rel=0.01)


def test_one_entry_stands_for_all_quantizations():
    variants = {one.quantization: one for one in built_in_families()["llama-2-chat"].variants if _is_gguf(one, 7)}
    assert variants["Q4_K_M"].source.file == "llama-2-7b-chat.Q4_K_M.gguf"
    assert variants["Q8_0"].source.file == "llama-2-7b-chat.Q8_0.gguf"
    assert variants["Q8_0"].kv_bytes_per_token == 2 * 2 * 32 * 4096
    small = next(one for one in built_in_families()["qwen2.5"].variants if one.quantization == "Q4_K_M")
    assert small.source.file == "qwen2.5-0.5b-instruct-q4_k_m.gguf"


def test_a_glob_takes_all_parts_and_no_other_quantization():
    found = [one for one in built_in_families()["llama-3.1"].variants if _is_gguf(one, 70)]
    glob = next(one.source.file for one in found if one.quantization == "Q6_K")
    stem = "Meta-Llama-3.1-70B-Instruct"
    assert fnmatchcase(f"{stem}-Q6_K/{stem}-Q6_K-00002-of-00002.gguf", glob)
    assert fnmatchcase(f"{stem}-Q6_K.gguf", glob)
    assert not fnmatchcase(f"{stem}-Q6_K_L.gguf", glob)


def test_what_nobody_has_looked_at_is_marked():
    def unverified(name: str, size: float, kind: str) -> bool:
        found = (one for one in built_in_families()[name].variants if one.format == kind)
        return next(one.source.unverified for one in found if one.size_in_billions == size)

    assert unverified("vicuna-v1.5-16k", 7, "gguf")  # from memory only
    assert unverified("orca", 7, "pytorch")
    assert not unverified("llama-2-chat", 13, "gguf")  # a released catalogue has it
    assert not unverified("chatglm2", 6, "ggml")
    assert not unverified("vicuna-v1.3", 7, "pytorch")


def test_slips_of_2023_are_not_repeated():
    revisions = {name: [one.source.revision for one in built_in_families()[name].variants] for name in SEED}
    assert not {one for one in revisions["chatglm2"] if one != "main"} & set(revisions["chatglm"])
    assert {one.size_in_billions for one in built_in_families()["opt"].variants} == {0.125}
    assert {one.size_in_billions for one in built_in_families()["starcoder"].variants} == {15.5}


@pytest.mark.parametrize(
    ("file", "family", "sibling"),
    [
        ("llama-2-7b-chat.Q4_K_M.gguf", "llama-2-chat", None),
        ("llama-2-7b.Q4_K_M.gguf", "llama-2", "llama-2-chat"),
        ("vicuna-13b-v1.5-16k.Q4_K_M.gguf", "vicuna-v1.5-16k", None),
        ("vicuna-13b-v1.5.Q4_K_M.gguf", "vicuna-v1.5", None),
        ("tiiuae-falcon-7b-instruct-Q4_0.gguf", "falcon-instruct", None),
        ("starcoderplus.Q4_0.gguf", "starcoderplus", "starchat-beta"),
        ("qwen2.5-coder-7b-instruct-q4_k_m.gguf", "qwen2.5-coder", None),
        ("Qwen2.5-7B-Instruct-Q4_K_M.gguf", "qwen2.5", None),
        ("Qwen2.5-7B-Q4_K_M.gguf", None, "qwen2.5"),
        ("Qwen3-8B-Q4_K_M.gguf", "qwen3", None),
        ("Qwen3-Embedding-0.6B-Q8_0.gguf", "qwen3-embedding", None),
        ("phi-4-Q4_K_M.gguf", "phi-4", None),
        ("microsoft_Phi-4-mini-instruct-Q4_K_M.gguf", "phi-4-mini", None),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2", None),
        ("SmolLM2-135M.Q4_1.gguf", None, "smollm2"),
        ("something-else.gguf", None, None),
    ],
)
def test_a_file_name_tells_its_family(file: str, family: str | None, sibling: str | None):
    found = family_of_file(file)
    assert (found.name if found else None, chat_sibling_of_file(file)) == (family, sibling)


def test_files_of_the_catalogue_are_known_by_their_names():
    """A file fetched for a family of 2023 must be found to be of it when it is launched by its path."""
    for name in SEED:
        for one in built_in_families()[name].variants:
            if one.format == "gguf" and "*" not in one.source.file:
                found = family_of_file(one.source.file)
                assert found is not None and found.name == name, one.source.file


GOOD = """name = "x"
description = "y"
[[variants]]
format = "gguf"
engine = "llama.cpp"
source = { kind = "built-in" }
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace('name = "x"\n', ""), "name"),
        (GOOD.replace('engine = "llama.cpp"\n', "engine = 5\n"), "$.variants[0].engine"),
        (GOOD.replace('kind = "built-in"', 'kind = "moon"'), "$.variants[0].source.kind"),
        (GOOD.replace('kind = "built-in"', 'kind = "built-in", colour = 1'), "colour"),
        ('colour = "red"\n' + GOOD, "colour"),
        (GOOD + "[shapes.7]\nlayers = 1\n", "$.shapes[...]"),
        (GOOD[:20], "end of document"),
        ("\ufeff\x00", "line"),
    ],
)
def test_a_violation_names_the_file_and_the_field(text: str, says: str):
    with pytest.raises(BadRequest) as caught:
        read_family(text.encode(), "odd.toml")
    assert caught.value.message.startswith("odd.toml: ")
    assert says in caught.value.message
    assert read_family(GOOD.encode(), "good.toml").name == "x"


def test_bytes_that_are_not_text():
    with pytest.raises(BadRequest, match=r"odd\.toml"):
        read_family(b"\xff\xfe", "odd.toml")


def test_a_family_goes_through_json_and_back():
    for family in built_in_families().values():
        assert msgspec.json.decode(msgspec.json.encode(family), type=type(family)) == family


def _is_gguf(one: Variant, size: float) -> bool:
    return one.format == "gguf" and one.size_in_billions == size
