"""Mapping templates: references, and what is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model.mapping_template import (
    UnsupportedTemplate,
    Variables,
    find_path,
    parse_template,
)

SEEN = Variables(
    body='{"name": "it\'s", "list": [1, {"a": true}], "none": null}',
    params={
        "path": {"id": "7"},
        "querystring": {"id": "8", "q": "9"},
        "header": {"X-Own": "mine"},
    },
    context={"stage": "prod", "identity": {"sourceIp": "127.0.0.1", "user": None}},
    stage_variables={"colour": "red"},
)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('{"statusCode": 200}', '{"statusCode": 200}'),
        ("$input.body", SEEN.body),
        ("$input.json('$.name')", '"it\'s"'),
        ("$input.json('$')", json.dumps(json.loads(SEEN.body), separators=(",", ":"))),
        ("$input.json('$.list[1].a')", "true"),
        ("$input.json('$.nothing')", '""'),
        ("$input.path('$.name')", "it's"),
        ("$input.path('$').list", '[1,{"a":true}]'),
        ("$input.path(\"$['name']\")", "it's"),
        ("$util.escapeJavaScript($input.path('$.name'))", "it\\'s"),
        ("$util.escapeJavaScript($input.params('q'))", "9"),
        ("$input.params('id')/$input.params('x-own')", "7/mine"),
        ("$input.params().header.get('X-Own')", "mine"),
        ("$context.stage/$context.identity.sourceIp", "prod/127.0.0.1"),
        ("$context.identity.user|$context.nothing", "|"),
        ("${stageVariables.colour}ish $stageVariables.colour", "redish red"),
        ("$util.base64Encode('hi') $util.base64Decode('aGk=')", "aGk= hi"),
        ("$util.urlEncode('a b/') $util.urlDecode('a+b')", "a+b%2F a b"),
        ("$util.parseJson('{\"a\": 1}').a", "1"),
        ("cost: $5, $ and $unknown.thing $!quiet", "cost: $5, $ and $unknown.thing "),
        ("a ## a comment\nb", "a b"),
        ("a #* a\ncomment *#b#* #", "a b#* #"),
        ("it''s #1", "it''s #1"),
    ],
)
def test_a_template_renders(template: str, text: str) -> None:
    assert parse_template(template).render(SEEN) == text


@pytest.mark.parametrize(
    "template",
    [
        "#set($a = 1)",
        "#if($input.body)x#end",
        "#foreach($i in $input.path('$'))#end",
        "$input",
        "$input.nothing()",
        "$util.toJson('x')",
        "${input.body",
        "$input.json(1)",
        "$input.json('$'",
        "$util.urlEncode(" * 50,
        "x" * 307_201,
    ],
)
def test_what_is_not_evaluated_is_refused(template: str) -> None:
    with pytest.raises(UnsupportedTemplate):
        parse_template(template)


@given(st.text("$input.json('$.a')util#{}![] \n\\\"x", max_size=60), st.text(max_size=20))
def test_any_template_is_refused_or_renders(template: str, body: str) -> None:
    with contextlib.suppress(UnsupportedTemplate):
        rendered = parse_template(template).render(Variables(body=body))
        assert isinstance(rendered, str)


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(st.text("ab"), inner)), st.text())
def test_any_path_has_an_answer(value: Any, path: str) -> None:
    find_path(value, path)
    assert find_path(value, "$") == value
