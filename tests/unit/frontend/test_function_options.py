"""Runtime management and recursion settings."""

from __future__ import annotations

from typing import Any

import pytest

from firelet.control.functions import NewCode
from firelet.control.registry import Registry
from firelet.frontend.function_options import FunctionOptionOperations
from firelet.model.arn import FunctionRef
from firelet.model.errors import FireletError, InvalidParameterValue, ResourceNotFound
from firelet.model.runtimes import format_runtime_version_arn
from lambda_api import LambdaApi
from registry_parts import ACCOUNT, ARN, KEY, OTHER_ZIP, REGION, settle

BUILD = format_runtime_version_arn(REGION, "python3.12")


@pytest.fixture
def api(published: Registry) -> LambdaApi:
    return LambdaApi(published, FunctionOptionOperations)


async def test_a_build_is_named_in_manual_mode_only(api: LambdaApi) -> None:
    manual = await api.call(
        "PutRuntimeManagementConfig", UpdateRuntimeOn="Manual", RuntimeVersionArn=BUILD
    )
    expected = {"UpdateRuntimeOn": "Manual", "FunctionArn": f"{ARN}:$LATEST"}
    assert manual == {**expected, "RuntimeVersionArn": BUILD}
    assert await api.call("GetRuntimeManagementConfig") == manual
    updated = await api.call("PutRuntimeManagementConfig", UpdateRuntimeOn="FunctionUpdate")
    assert updated == {**expected, "UpdateRuntimeOn": "FunctionUpdate"}


async def test_a_version_begins_with_what_latest_had_and_goes_its_own_way(
    api: LambdaApi, published: Registry
) -> None:
    await api.call("PutRuntimeManagementConfig", UpdateRuntimeOn="FunctionUpdate")
    await published.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
    await settle(published)
    await published.versions.publish(KEY)
    await api.call("PutRuntimeManagementConfig", UpdateRuntimeOn="Auto", Qualifier="$LATEST")
    modes = [
        (await api.call("GetRuntimeManagementConfig", Qualifier=qualifier))["UpdateRuntimeOn"]
        for qualifier in ("1", "2", "$LATEST")
    ]
    assert modes == ["Auto", "FunctionUpdate", "Auto"]
    await settle(published)
    await published.versions.delete(KEY, "2")
    assert set(published.functions.get(KEY).runtime_management) == {"$LATEST"}


@pytest.mark.parametrize(
    "params",
    [
        {"UpdateRuntimeOn": "Manual"},
        {"UpdateRuntimeOn": "Auto", "RuntimeVersionArn": BUILD},
        {
            "UpdateRuntimeOn": "Manual",
            "RuntimeVersionArn": format_runtime_version_arn(REGION, "nodejs22.x"),
        },
    ],
)
async def test_mode_and_build_must_fit(api: LambdaApi, params: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterValue, match=r"RuntimeVersionArn|runtime version"):
        await api.call("PutRuntimeManagementConfig", **params)


@pytest.mark.parametrize("qualifier", ["live", "9"])
@pytest.mark.parametrize("operation", ["Get", "Put"])
async def test_the_setting_is_of_versions(api: LambdaApi, operation: str, qualifier: str) -> None:
    params = {"UpdateRuntimeOn": "Auto"} if operation == "Put" else {}
    with pytest.raises(ResourceNotFound, match=f"^Function not found: {ARN}:{qualifier}$"):
        await api.call(f"{operation}RuntimeManagementConfig", Qualifier=qualifier, **params)


async def test_the_recursion_setting_decides_whether_loops_are_stopped(
    api: LambdaApi, published: Registry
) -> None:
    assert await api.call("GetFunctionRecursionConfig") == {"RecursiveLoop": "Terminate"}
    ref = FunctionRef("greeter", "live")
    assert not published.resolve(ACCOUNT, REGION, ref).is_loop_allowed
    allow = {"RecursiveLoop": "Allow"}
    assert await api.call("PutFunctionRecursionConfig", **allow) == allow
    assert await api.call("GetFunctionRecursionConfig") == allow
    assert published.resolve(ACCOUNT, REGION, ref).is_loop_allowed


async def test_a_value_that_there_is_not_is_refused_as_recorded(api: LambdaApi) -> None:
    with pytest.raises(FireletError) as caught:
        await api.call("PutFunctionRecursionConfig", RecursiveLoop="InvalidValue")
    assert caught.value.message == (
        "1 validation error detected: Value 'InvalidValue' at 'recursiveLoop' failed to satisfy"
        " constraint: Member must satisfy enum value set: [Terminate, Allow]"
    )
