"""Chat templates render as transformers renders them, and cannot leave the sandbox."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2.exceptions import SecurityError, TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from pilothouse.specialists.template import render
from pilothouse.specialists.tokenizing import PLAIN_TEMPLATE

MESSAGES = [
    {"role": "system", "content": "Be <brief> & 'kind'."},
    {"role": "user", "content": "Größe?"},
    {"role": "assistant", "content": "  {{ 7 * 7 }}\n"},
    {"role": "user", "content": "🚢"},
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "", "unk_token": "?"}
TEMPLATES = {
    "plain": PLAIN_TEMPLATE,
    "blocks": """{{ bos_token }}
    {% for m in messages %}
        {%- if m.role == 'system' %}{% continue %}{% endif %}
        {% if loop.index > 3 %}
          {% break %}
        {% endif %}
[{{ m['role'] | upper }}] {{ m.content | trim }}{{ eos_token }}
    {% endfor %}
    {% if add_generation_prompt %}
>>>
    {% endif %}""",
    "namespace": "{% set ns = namespace(n=0, self=1) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{% endfor %}{{ ns.n }}{{ dict(a=ns.self)['a'] }}",
    "json": "{{ messages | tojson }}|{{ messages[0] | tojson(indent=2) }}|"
    "{{ tools is none }}{{ documents is none }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %};{% endfor %}",
}


@pytest.mark.parametrize("call", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_as_transformers(name: str, call: bool) -> None:
    reference: Any = render_jinja_template
    wanted, _ = reference([MESSAGES], chat_template=TEMPLATES[name], add_generation_prompt=call, **TOKENS)
    assert wanted[0]
    assert render(TEMPLATES[name], MESSAGES, call, TOKENS) == wanted[0]


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ ''.__class__.__mro__[0] }}",
        "{% set ns = namespace(_hidden=1) %}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ dict.__class__.__base__ }}{{ dict.mro() }}",
        "{{ raise_exception('roles must alternate') }}",
    ],
)
def test_what_a_template_may_not_do(template: str) -> None:
    with pytest.raises((SecurityError, TemplateError)):
        render(template, MESSAGES, False, TOKENS)


def test_messages_are_not_changed_by_a_template() -> None:
    before = [dict(m) for m in MESSAGES]
    with pytest.raises(SecurityError):
        render("{{ messages[0].update(role='user') }}", MESSAGES, False, TOKENS)
    assert before == MESSAGES
