"""What isolates functions, as the operator says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from firelet.app.config import load_config
from firelet.model.errors import PlatformError
from firelet.model.isolation import Isolation

DIGEST = "ab" * 32


def test_namespaces_are_what_there_is_unless_it_is_said() -> None:
    found = load_config(environment={"HOME": "/home/x"})
    assert (found.isolation, found.microvm_image, found.firecracker) == (
        Isolation.NAMESPACES,
        None,
        None,
    )


def test_a_file_the_environment_and_the_command_line_may_say_it(tmp_path: Path) -> None:
    file = tmp_path / "firelet.toml"
    file.write_text(
        f'[firelet]\nisolation = "microvm"\nmicrovm_image = "{DIGEST}"\n'
        'firecracker = "/opt/firecracker"\ndata_dir = "/srv/firelet"\n'
    )
    from_file = load_config(environment={}, file=file)
    assert from_file.isolation is Isolation.MICROVM
    assert from_file.microvms.image == DIGEST
    assert from_file.microvms.firecracker == Path("/opt/firecracker")
    assert from_file.microvms.images == Path("/srv/firelet/guest-images")
    from_variable = load_config(environment={"FIRELET_ISOLATION": "namespaces"}, file=file)
    assert from_variable.isolation is Isolation.NAMESPACES
    flag = load_config({"isolation": "microvm"}, environment={"FIRELET_ISOLATION": "namespaces"})
    assert flag.isolation is Isolation.MICROVM


@pytest.mark.parametrize(
    ("name", "value"), [("ISOLATION", "docker"), ("ISOLATION", ""), ("MICROVM_IMAGE", "latest")]
)
def test_other_values_are_refused(name: str, value: str) -> None:
    with pytest.raises(PlatformError, match=f"the environment sets {name.lower()} to '{value}'"):
        load_config(environment={f"FIRELET_{name}": value})
