"""Names of images, and what is run of one."""

from __future__ import annotations

import pytest

from firelet.model.image import Image, image_process, parse_image_name

DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "wanted"),
    [
        (
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "app",
            "v1",
        ),
        ("localhost:5000/a/b_c/d-e.f:Tag_1.2-3", "localhost:5000", "a/b_c/d-e.f", "Tag_1.2-3"),
        (f"ghcr.io/x/y@sha256:{DIGEST}", "ghcr.io", "x/y", f"sha256:{DIGEST}"),
        (f"ghcr.io/x:t@sha256:{DIGEST}", "ghcr.io", "x", f"sha256:{DIGEST}"),
        ("127.0.0.1:80/x:t", "127.0.0.1:80", "x", "t"),
    ],
)
def test_a_name_has_registry_repository_and_tag_or_digest(
    text: str, registry: str, repository: str, wanted: str
) -> None:
    name = parse_image_name(text)
    assert name is not None
    assert (name.registry, name.repository, name.wanted) == (registry, repository, wanted)
    assert name.resolved(DIGEST) == f"{registry}/{repository}@sha256:{DIGEST}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app:v1",
        "repo/app:v1",
        "r.example/app",
        "r.example/../app:v1",
        "r.example/a/./b:v1",
        "r.example//app:v1",
        "r.example/App:v1",
        "r.example/app:",
        "r.example/app:v1\n",
        "r.example/app@sha256:abc",
        "http://r.example/app:v1",
        "user@r.example/app:v1",
        "r.example:port/app:v1",
        "r.example/app:v1?x",
        f"r.example/{'a' * 1_100}:v1",
    ],
)
def test_what_names_no_image_is_refused(text: str) -> None:
    assert parse_image_name(text) is None


def test_each_member_of_the_configuration_stands_for_itself() -> None:
    image = Image(
        uri="",
        resolved_uri="",
        digest="",
        layers=(),
        entry_point=("/e", "x"),
        command=("c",),
        working_directory="/w",
        environment=("A=1", "A=2", "B=b=c", "broken", "=x", ""),
    )
    plain = image_process(image, {})
    assert (plain.arguments, plain.working_directory) == (("/e", "x", "c"), "/w")
    changed = image_process(image, {"EntryPoint": ["/n"], "WorkingDirectory": "/v"})
    assert (changed.arguments, changed.working_directory) == (("/n", "c"), "/v")
    assert image_process(image, {"Command": ["d"]}).arguments == ("/e", "x", "d")
    assert image.variables["A"] == "2"
    assert image.variables["B"] == "b=c"
    assert set(image.variables) == {"PATH", "A", "B"}
    assert image.variables["PATH"].startswith("/usr/local/sbin:")


def test_without_a_working_directory_it_is_the_root() -> None:
    image = Image(uri="", resolved_uri="", digest="", layers=())
    assert image_process(image, {}).working_directory == "/"
    assert image_process(image, {}).arguments == ()
