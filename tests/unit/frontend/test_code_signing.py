"""Code signing: configurations, the functions that have them, and the packages they let in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firelet.control.configuration import Settings
from firelet.control.functions import NewCode
from firelet.control.layers import NewLayerVersion
from firelet.control.registry import Registry
from firelet.frontend.code_signing import CodeSigningOperations
from firelet.frontend.tags import TagOperations
from firelet.model.errors import (
    CodeSigningConfigNotFound,
    CodeVerificationFailed,
    InvalidCodeSignature,
    InvalidParameterValue,
    ResourceConflict,
    ResourceNotFound,
)
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from lambda_api import LambdaApi
from registry_parts import ACCOUNT, ARN, KEY, REGION, ZIP, FakeActivator, new_function, settle
from signed_packages import SIGNED_AT, make_signer, sign_package

PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/release"
SIGNER = f"{PROFILE}/abcdefghij"
JOB = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-jobs/01234567-89ab-cdef-0123-456789abcdef"
TRUSTED = make_signer()
SIGNED = sign_package({"handler.py": "pass"}, TRUSTED, SIGNER, JOB)
CHANGED = sign_package({"handler.py": "pass"}, TRUSTED, SIGNER, JOB, changed={"handler.py": "evil"})
EXPIRED = sign_package({"handler.py": "pass"}, TRUSTED, SIGNER, JOB, expires=SIGNED_AT)
MISSING = f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-{'0' * 17}"
NOT_THERE = f"The Lambda code signing configuration {MISSING} can not be found."
DELETED = (
    "The code signing configuration cannot be found. Check that the provided configuration is not"
    f" deleted: {MISSING}."
)
REFUSED = "Lambda cannot deploy the function. The function or layer might be signed using"


@pytest.fixture
def api(published: Registry) -> LambdaApi:
    return LambdaApi(published, CodeSigningOperations, TagOperations)


async def create(api: LambdaApi, policy: str | None = None, *publishers: str, **more: Any) -> Any:
    params: dict[str, Any] = {
        "AllowedPublishers": {"SigningProfileVersionArns": list(publishers or (SIGNER,))},
        **more,
    }
    if policy is not None:
        params["CodeSigningPolicies"] = {"UntrustedArtifactOnDeployment": policy}
    return (await api.call("CreateCodeSigningConfig", **params))["CodeSigningConfig"]


async def deploy(api: LambdaApi, package: bytes) -> Any:
    version = await api.registry.functions.update_code(NewCode(key=KEY, package=package))
    return version.extras


async def test_a_configuration_warns_unless_told_otherwise(api: LambdaApi) -> None:
    config = await create(api, Description="ours")
    identity = config.pop("CodeSigningConfigId")
    assert len(identity) == len("csc-") + 17
    assert config == {
        "CodeSigningConfigArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:{identity}",
        "Description": "ours",
        "AllowedPublishers": {"SigningProfileVersionArns": [SIGNER]},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"},
        "LastModified": "2026-11-23T07:00:00.000+0000",
    }


async def test_an_update_changes_what_it_names(api: LambdaApi) -> None:
    arn = (await create(api, "Enforce", Description="ours"))["CodeSigningConfigArn"]
    same = await api.call("UpdateCodeSigningConfig", CodeSigningConfigArn=arn)
    assert same == await api.call("GetCodeSigningConfig", CodeSigningConfigArn=arn)
    changed = await api.call(
        "UpdateCodeSigningConfig",
        CodeSigningConfigArn=arn,
        CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Warn"},
    )
    assert changed["CodeSigningConfig"]["CodeSigningPolicies"] == {
        "UntrustedArtifactOnDeployment": "Warn"
    }
    assert changed["CodeSigningConfig"]["Description"] == "ours"


async def test_configurations_are_listed_in_pages(api: LambdaApi) -> None:
    made = {(await create(api))["CodeSigningConfigId"] for _ in range(3)}
    pages = await api.pages("ListCodeSigningConfigs", "CodeSigningConfigs", MaxItems=2)
    assert [len(page) for page in pages] == [2, 1]
    assert {config["CodeSigningConfigId"] for page in pages for config in page} == made


async def test_a_function_has_one_until_it_is_taken_away(api: LambdaApi) -> None:
    arn = (await create(api))["CodeSigningConfigArn"]
    put = await api.call("PutFunctionCodeSigningConfig", CodeSigningConfigArn=arn)
    assert put == {"CodeSigningConfigArn": arn, "FunctionName": "greeter"}
    assert await api.call("GetFunctionCodeSigningConfig") == put
    users = await api.call("ListFunctionsByCodeSigningConfig", CodeSigningConfigArn=arn)
    assert users == {"FunctionArns": [ARN]}
    with pytest.raises(ResourceConflict, match="is used by a function"):
        await api.call("DeleteCodeSigningConfig", CodeSigningConfigArn=arn)
    for _ in range(2):
        assert await api.call("DeleteFunctionCodeSigningConfig") == 204
    assert api.registry.code_signing.of(KEY) is None
    assert await api.call("DeleteCodeSigningConfig", CodeSigningConfigArn=arn) == 204


@pytest.mark.parametrize(
    "operation",
    [
        "GetCodeSigningConfig",
        "UpdateCodeSigningConfig",
        "DeleteCodeSigningConfig",
        "ListFunctionsByCodeSigningConfig",
    ],
)
@pytest.mark.parametrize("arn", [MISSING, MISSING.replace(ACCOUNT, "999999999999")])
async def test_a_configuration_that_is_not_there(api: LambdaApi, operation: str, arn: str) -> None:
    with pytest.raises(ResourceNotFound) as caught:
        await api.call(operation, CodeSigningConfigArn=arn)
    assert caught.value.message == NOT_THERE.replace(MISSING, arn)


@pytest.mark.parametrize("name", ["greeter", "nobody"])
async def test_the_configuration_is_looked_for_before_the_function(
    api: LambdaApi, name: str
) -> None:
    with pytest.raises(CodeSigningConfigNotFound) as caught:
        await api.call(
            "PutFunctionCodeSigningConfig", FunctionName=name, CodeSigningConfigArn=MISSING
        )
    assert caught.value.message == DELETED


async def test_a_function_that_is_not_there_has_none(api: LambdaApi) -> None:
    arn = (await create(api))["CodeSigningConfigArn"]
    for operation, params in (
        ("PutFunctionCodeSigningConfig", {"CodeSigningConfigArn": arn}),
        ("GetFunctionCodeSigningConfig", {}),
        ("DeleteFunctionCodeSigningConfig", {}),
    ):
        with pytest.raises(ResourceNotFound, match=r"^Function not found: .*:function:nobody$"):
            await api.call(operation, FunctionName="nobody", **params)
    with pytest.raises(InvalidParameterValue, match="permitted on Lambda functions only"):
        await api.call("GetFunctionCodeSigningConfig", FunctionName="greeter:1")


@pytest.mark.parametrize("publisher", [SIGNER, PROFILE])
async def test_what_an_allowed_publisher_has_signed_is_deployed_and_recorded(
    api: LambdaApi, publisher: str
) -> None:
    arn = (await create(api, "Enforce", publisher))["CodeSigningConfigArn"]
    await api.call("PutFunctionCodeSigningConfig", CodeSigningConfigArn=arn)
    assert await deploy(api, SIGNED) == {"SigningProfileVersionArn": SIGNER, "SigningJobArn": JOB}
    await api.call("DeleteFunctionCodeSigningConfig")
    assert await deploy(api, ZIP) == {}, "of an unsigned package nothing is recorded"


@pytest.mark.parametrize("package", [ZIP, SIGNED])
async def test_what_nobody_allowed_has_signed_is_refused_or_warned_about(
    api: LambdaApi, package: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    config = await create(api, "Enforce", f"{PROFILE}/0000000000")
    arn = config["CodeSigningConfigArn"]
    await api.call("PutFunctionCodeSigningConfig", CodeSigningConfigArn=arn)
    with pytest.raises(CodeVerificationFailed, match=REFUSED):
        await deploy(api, package)
    await api.call(
        "UpdateCodeSigningConfig",
        CodeSigningConfigArn=arn,
        CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Warn"},
    )
    await deploy(api, package)
    assert f"untrusted package deployed: function=greeter config={arn}" in caplog.text


@pytest.mark.parametrize("policy", ["Enforce", "Warn"])
async def test_what_was_changed_after_it_was_signed_is_refused_by_either_policy(
    api: LambdaApi, policy: str
) -> None:
    arn = (await create(api, policy))["CodeSigningConfigArn"]
    await api.call("PutFunctionCodeSigningConfig", CodeSigningConfigArn=arn)
    with pytest.raises(InvalidCodeSignature, match="failed the integrity check") as caught:
        await deploy(api, CHANGED)
    assert (caught.value.status, caught.value.code) == (400, "InvalidCodeSignatureException")
    key = (ACCOUNT, REGION, "changed")
    with pytest.raises(InvalidCodeSignature):
        await api.registry.functions.create(new_function(key, CHANGED, code_signing=arn))
    await api.call("DeleteFunctionCodeSigningConfig")
    assert await deploy(api, CHANGED) == {}, "without a configuration nobody looks"


async def test_an_expired_signature_is_refused_or_warned_about(
    api: LambdaApi, caplog: pytest.LogCaptureFixture
) -> None:
    enforced = (await create(api, "Enforce"))["CodeSigningConfigArn"]
    await api.call("PutFunctionCodeSigningConfig", CodeSigningConfigArn=enforced)
    with pytest.raises(CodeVerificationFailed, match=REFUSED):
        await deploy(api, EXPIRED)
    warned = (await create(api, "Warn"))["CodeSigningConfigArn"]
    await api.call("PutFunctionCodeSigningConfig", CodeSigningConfigArn=warned)
    assert (await deploy(api, EXPIRED))["SigningProfileVersionArn"] == SIGNER
    assert f"config={warned} reason=the signature has expired" in caplog.text


async def test_a_signature_has_to_lead_to_a_trusted_certificate_if_there_is_one(
    tmp_path: Path,
) -> None:
    registry = Registry(
        MemoryDocuments(),
        BlobStore(tmp_path / "blobs"),
        activator=FakeActivator(),
        clock=lambda: 1_795_417_200.0,
        signing_trust=[TRUSTED.root],
    )
    await registry.load()
    api = LambdaApi(registry, CodeSigningOperations, TagOperations)
    arn = (await create(api, "Enforce"))["CodeSigningConfigArn"]
    stranger = sign_package({"handler.py": "pass"}, make_signer(), SIGNER, JOB)
    key = (ACCOUNT, REGION, "signed")
    with pytest.raises(CodeVerificationFailed, match=REFUSED):
        await registry.functions.create(new_function(key, stranger, code_signing=arn))
    await registry.functions.create(new_function(key, SIGNED, code_signing=arn))
    await registry.close()


async def test_the_layers_of_a_function_are_checked_like_its_code(api: LambdaApi) -> None:
    arn = (await create(api, "Enforce"))["CodeSigningConfigArn"]
    layers = {}
    for name, package in {"plain": ZIP, "signed": SIGNED, "changed": CHANGED}.items():
        new = NewLayerVersion(key=(ACCOUNT, REGION, name), package=package)
        layers[name] = (await api.registry.layers.publish(new)).arn
    functions = api.registry.functions
    faults: dict[str, type[Exception]] = {
        "plain": CodeVerificationFailed,
        "changed": InvalidCodeSignature,
    }
    key = (ACCOUNT, REGION, "signed")
    for name, fault in faults.items():
        new_one = new_function(key, SIGNED, code_signing=arn, layers=(layers[name],))
        with pytest.raises(fault):
            await functions.create(new_one)
    good = new_function(key, SIGNED, code_signing=arn, layers=(layers["signed"],))
    assert [use.arn for use in (await functions.create(good)).layers] == [layers["signed"]]
    await settle(api.registry)
    for name, fault in faults.items():
        with pytest.raises(fault):
            await functions.update_configuration(key, Settings(layers=(layers[name],)), None)
    await functions.update_configuration(key, Settings(layers=()), None)


async def test_a_new_function_is_checked_too(api: LambdaApi) -> None:
    arn = (await create(api, "Enforce"))["CodeSigningConfigArn"]
    key = (ACCOUNT, REGION, "signed")
    with pytest.raises(CodeVerificationFailed, match=r"Check the provided signature for signed\.$"):
        await api.registry.functions.create(new_function(key, code_signing=arn))
    created = await api.registry.functions.create(new_function(key, SIGNED, code_signing=arn))
    assert created.extras["SigningJobArn"] == JOB
    found = await api.call("GetFunctionCodeSigningConfig", FunctionName="signed")
    assert found["CodeSigningConfigArn"] == arn


async def test_a_function_that_is_deleted_has_no_configuration_any_more(api: LambdaApi) -> None:
    arn = (await create(api))["CodeSigningConfigArn"]
    await api.call("PutFunctionCodeSigningConfig", CodeSigningConfigArn=arn)
    await api.registry.functions.delete(KEY)
    assert await api.call("ListFunctionsByCodeSigningConfig", CodeSigningConfigArn=arn) == {
        "FunctionArns": []
    }
    assert await api.call("DeleteCodeSigningConfig", CodeSigningConfigArn=arn) == 204


async def test_configurations_have_tags_and_survive_a_restart(
    api: LambdaApi, documents: MemoryDocuments, tmp_path: Path
) -> None:
    arn = (await create(api, Tags={"team": "a"}))["CodeSigningConfigArn"]
    await api.call("PutFunctionCodeSigningConfig", CodeSigningConfigArn=arn)
    await api.call("TagResource", Resource=arn, Tags={"stage": "b"})
    await api.call("UntagResource", Resource=arn, TagKeys=["team"])
    assert await api.call("ListTags", Resource=arn) == {"Tags": {"stage": "b"}}
    again = Registry(documents, BlobStore(tmp_path / "blobs"), activator=FakeActivator())
    await again.load()
    other = LambdaApi(again, CodeSigningOperations, TagOperations)
    assert await other.call("ListTags", Resource=arn) == {"Tags": {"stage": "b"}}
    assert await other.call("GetCodeSigningConfig", CodeSigningConfigArn=arn)
    users = await other.call("ListFunctionsByCodeSigningConfig", CodeSigningConfigArn=arn)
    assert users == {"FunctionArns": [ARN]}
