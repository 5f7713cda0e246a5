"""What the documents name is there."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from firelet.app.config import PlatformConfig
from firelet.app.parity import Standing, list_coverage
from firelet.runtime.phases import _TABLE, Event, Phase

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_paths_exist(document: Path) -> None:
    text = document.read_text()
    linked = [
        document.parent / target.partition("#")[0]
        for target in re.findall(r"\]\(([^)]+)\)", text)
        if not target.startswith(("http:", "https:", "#"))
    ]
    named = [ROOT / path for path in re.findall(r"`((?:tests|bench|docs)/[\w/.\-]+)`", text)]
    assert [str(path) for path in (*linked, *named) if not path.exists()] == []


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \| `FIRELET_", text, re.MULTILINE))
    assert documented == {field.name for field in fields(PlatformConfig)}


def test_the_phases_are_drawn_as_they_are() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = {
        (Phase[phase], Event[event]): Phase[after]
        for phase, events, after in re.findall(
            r"^\| ([A-Z_]+) \| ([A-Z_, ]+) \| ([A-Z_]+) \|$", text, re.MULTILINE
        )
        for event in events.split(", ")
    }
    assert drawn == {key: after for key, after in _TABLE.items() if key[1] is not Event.ENDED}


def test_the_readme_counts_the_operations_that_are_served() -> None:
    coverage = list_coverage()
    served = sum(each.standing is not Standing.MISSING for each in coverage)
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"{served} of Lambda's {len(coverage)} operations" in text
