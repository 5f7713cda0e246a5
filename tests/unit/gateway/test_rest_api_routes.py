"""The tree of paths of a REST API, against a search through all resources."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from firelet.control.rest_api_records import Definition, RestResource
from firelet.gateway.rest_api_routes import Match, Routes

MOCK = {
    "type": "MOCK",
    "timeoutInMillis": 29_000,
    "passthroughBehavior": "WHEN_NO_MATCH",
}
PARTS = ("a", "b", "{x}", "{y}", "{rest+}")
VERBS = ("GET", "POST", "ANY")


def make_routes(paths: dict[str, list[str]]) -> Routes:
    resources = {"root": RestResource(id="root", path="/")}
    for path, verbs in paths.items():
        methods = {
            verb: {"httpMethod": verb, "authorizationType": "NONE", "methodIntegration": MOCK}
            for verb in verbs
        }
        resources[path] = RestResource(id=path, parent_id="root", path=path, methods=methods)
    return Routes(Definition(settings={}, resources=resources))


def shown(match: Match | None) -> tuple[str, str, dict[str, str]] | None:
    if match is None:
        return None
    return match.method.resource_path, match.method.verb, dict(match.parameters)


def rank(template: list[str], parts: list[str]) -> list[int] | None:
    """How well each part fits: 0 a literal, 1 a variable, 2 the greedy one; None: not at all."""
    ranks = []
    for at, part in enumerate(template):
        if part.endswith("+}"):
            return [*ranks, 2] if at < len(parts) else None
        if at >= len(parts):
            return None
        if part.startswith("{"):
            ranks.append(1)
        elif part == parts[at]:
            ranks.append(0)
        else:
            return None
    return ranks if len(template) == len(parts) else None


def search(paths: dict[str, list[str]], parts: list[str], verb: str) -> str | None:
    """The path of the best resource that has the method."""
    best: tuple[list[int], str] | None = None
    for path, verbs in paths.items():
        ranks = rank([part for part in path.split("/") if part], parts)
        if ranks is None or not {verb, "ANY"} & set(verbs):
            continue
        if best is None or ranks < best[0]:
            best = (ranks, path)
    return None if best is None else best[1]


def make_path(parts: list[str]) -> str:
    """As the rules of resources have it: nothing stands below the greedy part, and each level has
    one variable name."""
    named = []
    for level, part in enumerate(parts):
        if part == "{rest+}":
            named.append(part)
            break
        named.append(f"{{v{level}}}" if part.startswith("{") else part)
    return "/" + "/".join(named)


paths = st.dictionaries(
    st.lists(st.sampled_from(PARTS), max_size=3).map(make_path),
    st.lists(st.sampled_from(VERBS), min_size=1, max_size=2, unique=True),
    max_size=8,
)


@given(paths, st.lists(st.sampled_from(("a", "b", "c")), max_size=4), st.sampled_from(VERBS[:2]))
def test_the_tree_finds_what_a_search_finds(
    paths: dict[str, list[str]], parts: list[str], verb: str
) -> None:
    match = make_routes(paths).find("/" + "/".join(parts), verb)

    assert (None if match is None else match.method.resource_path) == search(paths, parts, verb)


@given(paths, st.text(), st.text())
def test_any_path_and_method_have_an_answer(
    paths: dict[str, list[str]], path: str, verb: str
) -> None:
    match = make_routes(paths).find(path, verb)

    assert match is None or match.method.resource_path in paths


def test_parameters_are_as_they_were_sent() -> None:
    routes = make_routes({"/pets/{id}/{rest+}": ["GET"]})

    assert shown(routes.find("/pets/a%2Fb/c%20/d/", "GET")) == (
        "/pets/{id}/{rest+}",
        "GET",
        {"id": "a%2Fb", "rest": "c%20/d"},
    )


def test_a_method_of_its_own_is_better_than_any() -> None:
    routes = make_routes({"/a": ["ANY", "GET"]})

    assert shown(routes.find("/a", "GET")) == ("/a", "GET", {})
    assert shown(routes.find("/a", "PUT")) == ("/a", "ANY", {})
