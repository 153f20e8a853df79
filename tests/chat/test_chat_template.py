"""ChatTemplate: what real templates give, what bad messages and bad templates end in."""

from __future__ import annotations

import threading
import time

import pytest

from xin.chat.template import ChatTemplate
from xin.errors import BadRequest, LoadFailed, UnsupportedParameter

HI = [{"role": "user", "content": "Hi"}]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]

LLAMA3 = """{% set loop_messages = messages %}{% for message in loop_messages %}\
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + \
'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

MISTRAL = """{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}\
{% set loop_messages = messages[1:] %}{% else %}{% set system = '' %}{% set loop_messages = messages %}{% endif %}\
{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if message['role'] == 'user' %}{{ '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}\
{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"""

QWEN3 = """{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == "user" and message.content is string %}
        {%- set ns.last = (messages|length - 1) - loop.index0 %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set text = message.content.split('</think>')[-1].lstrip('\\n') if '</think>' in message.content else \
message.content %}
        {%- generation %}{{- '<|im_start|>assistant\\n' ~ text ~ '<|im_end|>\\n' }}{%- endgeneration %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

PARTS_ONLY = """{% for m in messages %}{{ m.role }}:{% for part in m.content %}\
{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %};{% endfor %}"""

GROW = "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = "


def plain(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>")


def test_smollm2s_own_template(vocabulary) -> None:
    template = plain(vocabulary.template)
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert template.render(HI) == (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert template.render(TALK, add_generation_prompt=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
    )


def test_llama3() -> None:
    assert plain(LLAMA3).render([{"role": "user", "content": "  Hi \n"}]) == (
        "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_mistral() -> None:
    assert plain(MISTRAL).render(TALK) == "<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]"


def test_what_the_template_refuses_is_a_400_in_its_words() -> None:
    with pytest.raises(BadRequest, match="roles must alternate") as caught:
        plain(MISTRAL).render([*HI, *HI])
    assert caught.value.param == "messages"
    with pytest.raises(BadRequest, match="Only user and assistant"):
        plain(MISTRAL).render([*HI, {"role": "narrator", "content": "x"}])


def test_qwen3_thinking_switch_and_history() -> None:
    template = plain(QWEN3)
    assert template.mentions("enable_thinking")
    assert not template.mentions("reasoning_effort")
    said = [*HI, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello"}, *HI]
    talk = (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert template.render(said) == talk
    assert template.render(said, enable_thinking=True) == talk
    assert template.render(said, enable_thinking=False) == talk + "<think>\n\n</think>\n\n"


def test_names_that_templates_expect() -> None:
    template = plain(
        "{{ {'a': '<é>'} | tojson }} {{ [1, 2] | tojson(indent=1) }} {{ {'b': 1, 'a': 'é'} | tojson(ensure_ascii=true,"
        " separators=(',', ':'), sort_keys=true) }} {{ strftime_now('%Y') | length }}{{ pad_token }}"
    )
    assert template.render(HI) == '{"a": "<é>"} [\n 1,\n 2\n] {"a":"\\u00e9","b":1} 4'


def test_blocks_leave_no_blank_lines() -> None:
    template = plain("{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\n")
    assert template.render([*HI, *HI]) == "Hi\nHi\n"


@pytest.mark.parametrize("content", [None, "", []])
def test_no_content_is_an_empty_text(content: object) -> None:
    message = {"role": "assistant", "content": content}
    assert plain("{% for m in messages %}[{{ m.content }}]{% endfor %}").render([message]) == "[]"
    assert plain("[{{ messages[0].content }}]").render([{"role": "assistant"}]) == "[]"


def test_text_parts_are_joined_where_the_template_takes_text(vocabulary) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    shown = plain(vocabulary.template).render([{"role": "user", "content": parts}])
    assert "<|im_start|>user\none\ntwo<|im_end|>" in shown


def test_a_template_that_only_walks_over_parts_gets_parts() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert plain(PARTS_ONLY).render([*HI, {"role": "user", "content": parts}]) == "user:Hi;user:onetwo;"


def test_developer_is_system_unless_the_template_knows_it() -> None:
    messages = [{"role": "developer", "content": "x"}]
    assert plain("{{ messages[0].role }}").render(messages) == "system"
    knows = "{% if messages[0].role == 'developer' %}D{% endif %}"
    assert plain(knows).render(messages) == "D"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        (["hi"], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": 3, "content": "x"}], "messages[0].role"),
        ([*HI, {"role": "user", "content": 3}], "messages[1].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], "messages[0].content[0].text"),
    ],
)
def test_bad_messages_are_named(messages: list, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        plain(LLAMA3).render(messages)
    assert caught.value.param == param


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
def test_what_is_not_text_is_refused_by_name(kind: str) -> None:
    content = [{"type": "text", "text": "look"}, {"type": kind, kind: {"url": "data:"}}]
    with pytest.raises(UnsupportedParameter, match=kind) as caught:
        plain(LLAMA3).render([*HI, {"role": "user", "content": content}])
    assert caught.value.param == "messages[1].content[1].type"


def test_variables_that_are_ours_cannot_be_set() -> None:
    with pytest.raises(BadRequest) as caught:
        plain(LLAMA3).render(HI, messages=[])
    assert caught.value.param == "chat_template_kwargs.messages"


@pytest.mark.parametrize(
    "source",
    ["{% if %}", "{% for x in %}", "{{ 'a' | nofilter }}", "{% frob %}", "{{ " + "(" * 5000, "x" * 2_000_000],
)
def test_a_template_that_does_not_compile(source: str) -> None:
    with pytest.raises(LoadFailed, match="template"):
        plain(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content + 1 }}",
        "{{ 1 / 0 }}",
        "{{ nothing.at.all }}",
        "{{ messages[0].role.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% include 'x' %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ [1, 2] | join(3, 4, 5) }}",
        "{{ undefined_function() }}",
    ],
)
def test_a_template_that_breaks_is_a_400_without_a_traceback(source: str) -> None:
    with pytest.raises(BadRequest, match="template") as caught:
        plain(source).render(HI)
    assert caught.value.param == "messages"
    assert "Traceback" not in caught.value.message
    assert len(caught.value.message) < 700


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(200) }}",
        "{% block a %}{% for i in range(99) %}{{ self.a() }}{% endfor %}{% endblock %}",
        "{% for i in range(99999) %}{% for j in range(99) %}0123456789{% endfor %}{% endfor %}",
        "{{ 'x' * 999999999 }}",
        "{{ 999999999 * [1] }}",
        "{{ 10 ** 999999 }}",
        "{{ 'x' | center(999999999) }}",
        "{{ 'x'.ljust(999999999) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '%*d' | format(999999999, 1) }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ '{:{w}}'.format(1, w=999999999) }}",
        "{{ (5).to_bytes(999999999, 'big') }}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
        "{{ ns.s | tojson }}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}"
        "{% set ns.s = t %}{% endfor %}",
        GROW + "ns.s.replace('x', ns.s) %}{% endfor %}",
        GROW + "ns.s | replace('x', ns.s) %}{% endfor %}",
        GROW + "ns.s.join([ns.s, ns.s]) %}{% endfor %}",
        GROW + "[ns.s, ns.s] | join %}{% endfor %}",
        "{{ range(999999999) | list }}",
    ],
)
def test_a_hostile_template_is_stopped(source: str) -> None:
    began = time.thread_time()
    with pytest.raises(BadRequest, match="template"):
        plain(source).render(HI)
    assert time.thread_time() - began < 3


def test_everyday_use_of_the_guarded_names_works() -> None:
    template = plain(
        "{{ 2 * 3 }} {{ '-' * 3 }} {{ 2 ** 10 }} {{ '%05d' % 42 }} {{ '{:>4}|{}'.format('a', 123456) }} "
        "{{ ['a', 'b'] | join(', ') }} {{ messages | map(attribute='role') | join('+') }} {{ '%s!' | format('x') }} "
        "{{ 'a-b' | replace('-', '+') }} {{ 'a-b-c'.replace('-', '', 1) }} {{ 123456 | string }} {{ 'x' ~ 1 ~ none }} "
        "{{ ','.join(['p', 'q']) }} {{ 'a' | center(3) }}| {{ messages | tojson }} {{ dict(a=1) }} {{ [1] + [2] }}"
    )
    assert template.render([*HI, *HI[:1]]) == (
        "6 --- 1024 00042    a|123456 a, b user+user x! a+b ab-c 123456 x1None p,q  a | "
        '[{"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}] {\'a\': 1} [1, 2]'
    )


def test_a_long_honest_conversation_renders_fast(vocabulary) -> None:
    messages = [{"role": "user", "content": "x" * 2000}, {"role": "assistant", "content": "y" * 2000}] * 500
    template = plain(vocabulary.template)
    began = time.thread_time()
    assert len(template.render(messages)) > 2_000_000
    assert time.thread_time() - began < 0.5


def test_threads_have_their_own_allowance() -> None:
    template = plain("{% for i in range(3000) %}{{ messages[0].content }}{% endfor %}")
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(template.render([{"role": "user", "content": str(n)}])))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [str(n) * 3000 for n in range(4)]
