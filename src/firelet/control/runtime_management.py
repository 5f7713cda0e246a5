"""Runtime management: when a version of a function gets another build of its runtime.

firelet has one build of each runtime, the one that the host has: the setting is kept and checked,
and no version can ask for another build. Called by ``frontend.function_options``.
Source: docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html; the sentences are firelet's own.
"""

from __future__ import annotations

from dataclasses import replace

from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.control.targets import not_found
from firelet.model.arn import LATEST
from firelet.model.errors import InvalidParameterValue
from firelet.model.function import Function, FunctionKey, FunctionVersion, RuntimeManagement
from firelet.model.runtimes import format_runtime_version_arn

MANUAL = "Manual"


class RuntimeManagements:
    """The operations on this setting, which is by version."""

    def __init__(self, catalog: Catalog, mutations: Mutations) -> None:
        self._catalog = catalog
        self._mutations = mutations

    def get(self, key: FunctionKey, number: str) -> RuntimeManagement:
        """``Auto`` unless it was set; a version begins with what ``$LATEST`` had."""
        function = self._catalog.get(key, number)
        _find(function, number)
        return function.runtime_management.get(number) or RuntimeManagement()

    async def put(self, key: FunctionKey, number: str, setting: RuntimeManagement) -> None:
        """InvalidParameterValue when mode and build do not fit, or there is no such build."""
        await self._mutations.carry_out(self._put(key, number, setting))

    async def _put(self, key: FunctionKey, number: str, setting: RuntimeManagement) -> None:
        async with self._mutations.lock(key):
            function = self._catalog.get(key, number)
            _check(_find(function, number), setting)
            settings = {**function.runtime_management, number: setting}
            await self._catalog.commit(function, replace(function, runtime_management=settings))


def _find(function: Function, number: str) -> FunctionVersion:
    """Of an alias there is no setting: it may point elsewhere tomorrow."""
    version = function.latest if number == LATEST else function.versions.get(number)
    if version is None:
        raise not_found(function.key, number)
    return version


def _check(version: FunctionVersion, setting: RuntimeManagement) -> None:
    if (setting.update_on == MANUAL) != (setting.build_arn is not None):
        raise InvalidParameterValue(
            "RuntimeVersionArn is required when UpdateRuntimeOn is Manual, and not allowed"
            " otherwise."
        )
    if setting.build_arn is None:
        return
    if version.runtime is None or setting.build_arn != format_runtime_version_arn(
        version.region, version.runtime
    ):
        raise InvalidParameterValue(
            f"The runtime version {setting.build_arn} is not one of runtime {version.runtime}."
        )
