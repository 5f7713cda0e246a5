"""Which stage of an API a request is for, and what it serves. Pure but for what it remembers.

A named stage is the first part of the path; ``$default`` is everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from firelet.gateway.api_routes import HTTP_TIMEOUT_S, WEBSOCKET_TIMEOUT_S, RouteTable
from firelet.model.http_api import DEFAULT_STAGE, HTTP, HttpApi, Stage

_TABLES_MAX = 1_024
_NO_ROUTES = RouteTable({})


@dataclass(frozen=True, slots=True)
class Entry:
    """A stage and the path within it, raw."""

    stage: Stage
    path: str

    @property
    def variables(self) -> Mapping[str, str]:
        """Of the stage."""
        variables: Mapping[str, str] = self.stage.settings.get("StageVariables") or {}
        return variables


def find_stage(api: HttpApi, path: str) -> Entry | None:
    """``path`` is raw and begins with a slash."""
    name, slash, rest = path[1:].partition("/")
    stage = api.stages.get(name)
    if stage is not None and name != DEFAULT_STAGE:
        return Entry(stage, slash + rest or "/")
    default = api.stages.get(DEFAULT_STAGE)
    return None if default is None else Entry(default, path)


class RouteTables:
    """Compiled routes by deployment, which never changes."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], RouteTable] = {}

    def of(self, api: HttpApi, stage: Stage) -> RouteTable:
        """The routes that a stage serves; none before its first deployment."""
        if stage.deployment_id is None:
            return _NO_ROUTES
        key = (api.api_id, stage.deployment_id)
        table = self._tables.get(key)
        if table is None:
            if len(self._tables) >= _TABLES_MAX:
                self._tables.clear()
            timeout_s = HTTP_TIMEOUT_S if api.protocol == HTTP else WEBSOCKET_TIMEOUT_S
            deployment = api.deployments[stage.deployment_id]
            table = self._tables[key] = RouteTable(deployment.parts, timeout_s)
        return table
