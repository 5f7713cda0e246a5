"""What docs/deploy.md says of types is what the schemas say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from firelet.stacks.stack import make_types

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "deploy.md").read_text()


def test_the_types_are_listed_with_what_replaces_them() -> None:
    def client(service: str) -> Any:
        return None

    documented = {
        name: (fixed.strip(), set(re.findall(r"`([\w.]+)`", attributes)))
        for name, fixed, attributes in re.findall(
            r"^\| `(AWS::\w+::\w+)` \|([^|]*)\|([^|]*)\|$", TEXT, re.MULTILINE
        )
    }
    types = make_types(client, {})
    assert documented.keys() == types.keys()
    for name, (fixed, attributes) in documented.items():
        schema = types[name].schema
        assert attributes == schema.attributes, name
        expected = schema.properties if fixed == "all" else set(re.findall(r"`(\w+)`", fixed))
        assert expected == schema.fixed, name
