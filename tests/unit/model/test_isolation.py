"""What a function's tags ask for, and that all of the function follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firelet.model.errors import InvalidParameterValue
from firelet.model.function import Function, with_tags
from firelet.model.isolation import TAG, Isolation, isolation_of
from unit.versions import make_version


def test_without_the_tag_nothing_is_asked_for() -> None:
    assert isolation_of({"team": "red"}) is None


@pytest.mark.parametrize("isolation", Isolation)
def test_each_can_be_asked_for(isolation: Isolation) -> None:
    assert isolation_of({TAG: isolation.value}) is isolation


@pytest.mark.parametrize("value", ["", "MicroVM", "docker", "microvm "])
def test_what_there_is_not_is_refused_by_the_name_of_the_tag(value: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        isolation_of({TAG: value})
    assert "firelet:isolation" in caught.value.message
    assert "[namespaces, microvm]" in caught.value.message


def test_every_version_follows_and_so_does_what_serves_during_an_update() -> None:
    latest = make_version()
    function = Function(
        latest=latest,
        versions={"1": replace(latest, version="1"), "2": replace(latest, version="2")},
        serving=replace(latest, timeout_s=7),
    )
    changed = with_tags(function, {TAG: "microvm"})
    assert changed.serving is not None
    everything = [changed.latest, changed.serving, *changed.versions.values()]
    assert {version.isolation for version in everything} == {Isolation.MICROVM}
    assert changed.serving.timeout_s == 7
    assert changed.tags == {TAG: "microvm"}
    back = with_tags(changed, {})
    assert back == function


def test_other_tags_leave_the_versions_as_they_are() -> None:
    latest = make_version()
    versions = {"1": replace(latest, version="1")}
    changed = with_tags(Function(latest=latest, versions=versions), {"team": "red"})
    assert changed.latest is latest
    assert changed.versions is versions
