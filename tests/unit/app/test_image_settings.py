"""Where images come from, as the operator says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from firelet.app.config import load_config
from firelet.model.errors import PlatformError


def test_images_are_a_table_or_one_text(tmp_path: Path) -> None:
    file = tmp_path / "firelet.toml"
    file.write_text(
        '[firelet]\nimage_client = "http"\nregistry_credentials = "/etc/registries.json"\n'
        '[firelet.images]\n"ghcr.io" = "https://ghcr.io"\n"r.example/team" = "/srv/images"\n'
    )
    from_table = load_config(environment={}, file=file)
    text = "ghcr.io=https://ghcr.io, r.example/team=/srv/images"
    from_text = load_config(environment={"FIRELET_IMAGES": text})
    assert from_table.images == {"ghcr.io": "https://ghcr.io", "r.example/team": "/srv/images"}
    assert from_text.images == from_table.images
    assert from_table.registry_credentials == Path("/etc/registries.json")
    assert (from_table.image_client, from_text.image_client) == ("http", "auto")


def test_directories_do_not_depend_on_where_one_is_later() -> None:
    found = load_config(environment={"FIRELET_IMAGES": "r.example=layouts"})
    assert Path(found.images["r.example"]).is_absolute()


@pytest.mark.parametrize(("name", "value"), [("IMAGES", "nonsense"), ("IMAGE_CLIENT", "docker")])
def test_other_values_are_refused(name: str, value: str) -> None:
    with pytest.raises(PlatformError, match=f"the environment sets {name.lower()} to '{value}'"):
        load_config(environment={f"FIRELET_{name}": value})
