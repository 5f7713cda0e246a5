"""Creating, updating and deleting functions, with their states and their code."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from firelet.control.configuration import LoggingSettings, Settings
from firelet.control.functions import NewCode
from firelet.control.layers import NewLayerVersion
from firelet.control.packages import describe_package
from firelet.control.registry import Registry
from firelet.model import limits
from firelet.model.arn import FunctionRef
from firelet.model.errors import (
    CodeStorageExceeded,
    InvalidParameterValue,
    InvalidRuntime,
    NotYetImplemented,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
    ValidationError,
)
from firelet.model.function import State, UpdateStatus
from firelet.store.blobs import BlobStore
from firelet.store.documents import Delete, MemoryDocuments, Put
from registry_parts import (
    ACCESS_POINT,
    ACCOUNT,
    ARN,
    KEY,
    OTHER_ZIP,
    REGION,
    ZIP,
    FakeActivator,
    new_function,
    settle,
)

REF = FunctionRef("greeter")
DIGEST = describe_package(ZIP).digest
OTHER_DIGEST = describe_package(OTHER_ZIP).digest


class BrokenDocuments(MemoryDocuments):
    """A store whose disk is full from a moment on."""

    is_full = False

    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        await super().apply(changes)


async def test_a_new_function_is_pending_in_the_answer_and_active_right_after(
    registry: Registry,
) -> None:
    created = await registry.functions.create(new_function())
    assert created.state is State.PENDING
    assert created.state_reason == "The function is being created."
    assert created.state_reason_code == "Creating"
    assert created.last_modified == "2026-11-23T07:00:00.000+0000"
    await settle(registry)
    active = registry.functions.version(KEY)
    assert active.state is State.ACTIVE
    assert active.state_reason is None
    assert active.last_update_status is UpdateStatus.SUCCESSFUL
    assert active.revision_id != created.revision_id


async def test_defaults_are_those_of_aws(deployed: Registry) -> None:
    version = deployed.functions.version(KEY)
    assert (version.timeout_s, version.memory_mib, version.ephemeral_mib) == (3, 128, 512)
    assert version.logging.log_group == "/aws/lambda/greeter"
    assert version.logging.log_format == "Text"
    assert version.architecture == "x86_64"
    assert version.environment is None


async def test_a_name_can_be_used_once(deployed: Registry) -> None:
    with pytest.raises(ResourceConflict, match="Function already exist: greeter"):
        await deployed.functions.create(new_function(package=OTHER_ZIP))


async def test_two_creations_of_one_name_at_the_same_time_make_one_function(
    registry: Registry,
) -> None:
    results = await asyncio.gather(
        registry.functions.create(new_function()),
        registry.functions.create(new_function()),
        return_exceptions=True,
    )
    assert sum(isinstance(result, ResourceConflict) for result in results) == 1


async def test_a_refused_creation_leaves_no_code_behind(
    deployed: Registry, blobs: BlobStore
) -> None:
    with pytest.raises(InvalidParameterValue):
        await deployed.functions.create(
            new_function(
                (ACCOUNT, REGION, "other"),
                OTHER_ZIP,
                runtime="python3.9",
                snap_start="PublishedVersions",
            )
        )
    assert not blobs.contains(OTHER_DIGEST)


async def test_a_missing_runtime_makes_the_function_failed_with_the_reason(
    registry: Registry, activator: FakeActivator
) -> None:
    activator.failures.append(InvalidRuntime("python3.12 is not installed on this host."))
    await registry.functions.create(new_function())
    await settle(registry)
    failed = registry.functions.version(KEY)
    assert failed.state is State.FAILED
    assert failed.state_reason_code == "InvalidRuntime"
    assert failed.state_reason == "python3.12 is not installed on this host."


async def test_an_unexpected_error_of_an_activation_is_reported_without_its_details(
    registry: Registry, activator: FakeActivator
) -> None:
    activator.failures.append(RuntimeError("secret"))
    await registry.functions.create(new_function())
    await settle(registry)
    failed = registry.functions.version(KEY)
    assert failed.state_reason_code == "InternalError"
    assert "secret" not in (failed.state_reason or "")


async def test_a_failed_function_can_be_repaired_by_an_update(
    registry: Registry, activator: FakeActivator
) -> None:
    activator.failures.append(InvalidRuntime("no"))
    await registry.functions.create(new_function())
    await settle(registry)
    await registry.functions.update_configuration(KEY, Settings(runtime="python3.11"), None)
    await settle(registry)
    assert registry.functions.version(KEY).state is State.ACTIVE


async def test_an_update_is_in_progress_in_the_answer_and_keeps_the_function_active(
    deployed: Registry,
) -> None:
    updated = await deployed.functions.update_configuration(KEY, Settings(timeout_s=10), None)
    assert updated.state is State.ACTIVE
    assert updated.last_update_status is UpdateStatus.IN_PROGRESS
    assert updated.last_update_reason == "The function is being created."
    assert updated.last_update_reason_code == "Creating"
    await settle(deployed)
    version = deployed.functions.version(KEY)
    assert version.last_update_status is UpdateStatus.SUCCESSFUL
    assert version.timeout_s == 10
    assert version.handler == "handler.handler"


async def test_invocations_use_the_old_code_until_the_new_is_ready_and_then_retire_it(
    deployed: Registry, activator: FakeActivator
) -> None:
    activator.gate.clear()
    await deployed.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
    assert deployed.functions.version(KEY).code.digest == OTHER_DIGEST
    assert deployed.resolve(ACCOUNT, REGION, REF).version.code.digest == DIGEST
    activator.gate.set()
    await settle(deployed)
    assert deployed.resolve(ACCOUNT, REGION, REF).version.code.digest == OTHER_DIGEST
    assert activator.retired[-1] == (KEY, "$LATEST")


async def test_after_a_failed_update_invocations_go_on_with_the_old_code(
    deployed: Registry, activator: FakeActivator, blobs: BlobStore
) -> None:
    activator.failures.append(InvalidRuntime("no"))
    await deployed.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
    await settle(deployed)
    latest = deployed.functions.version(KEY)
    assert (latest.state, latest.last_update_status) == (State.ACTIVE, UpdateStatus.FAILED)
    assert latest.last_update_reason_code == "InvalidRuntime"
    assert deployed.resolve(ACCOUNT, REGION, REF).version.code.digest == DIGEST
    assert blobs.contains(DIGEST)
    await deployed.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
    await settle(deployed)
    assert deployed.resolve(ACCOUNT, REGION, REF).version.code.digest == OTHER_DIGEST
    assert not blobs.contains(DIGEST)


async def test_a_second_update_during_the_first_is_refused_when_patience_ends(
    deployed: Registry, activator: FakeActivator
) -> None:
    activator.gate.clear()
    await deployed.functions.update_configuration(KEY, Settings(timeout_s=10), None)
    with pytest.raises(ResourceConflict) as caught:
        await deployed.functions.update_configuration(KEY, Settings(timeout_s=20), None)
    assert caught.value.message == (
        "The operation cannot be performed at this time. An update is in progress for resource:"
        f" {ARN}"
    )


async def test_quick_calls_after_each_other_wait_instead_of_failing(
    documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator
) -> None:
    registry = Registry(
        documents, blobs, activator=activator, update_wait_s=60.0, answer_wait_s=0.0
    )
    await registry.load()
    activator.gate.clear()
    await registry.functions.create(new_function())
    waiting = asyncio.create_task(
        registry.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
    )
    await asyncio.sleep(0)
    assert not waiting.done()
    activator.gate.set()
    await waiting
    updated = await registry.functions.update_configuration(KEY, Settings(timeout_s=20), None)
    assert updated.code.digest == OTHER_DIGEST
    await registry.close()


async def test_the_answer_waits_for_the_activation_and_is_pending_all_the_same(
    documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator
) -> None:
    registry = Registry(documents, blobs, activator=activator, answer_wait_s=60.0)
    await registry.load()
    created = await registry.functions.create(new_function())
    assert created.state is State.PENDING
    assert registry.functions.version(KEY).state is State.ACTIVE
    updated = await registry.functions.update_configuration(KEY, Settings(timeout_s=9), None)
    assert updated.last_update_status is UpdateStatus.IN_PROGRESS
    assert registry.functions.version(KEY).last_update_status is UpdateStatus.SUCCESSFUL
    version = await registry.versions.publish(KEY)
    assert version.state is State.ACTIVE  # other than functions, it says so
    assert registry.functions.version(KEY, "1") is version
    await registry.close()


async def test_an_update_of_a_pending_function_says_so_when_patience_ends(
    registry: Registry, activator: FakeActivator
) -> None:
    activator.gate.clear()
    await registry.functions.create(new_function())
    with pytest.raises(ResourceConflict, match="following state: Pending"):
        await registry.functions.update_configuration(KEY, Settings(timeout_s=20), None)


async def test_a_stale_revision_id_is_refused(deployed: Registry) -> None:
    with pytest.raises(PreconditionFailed, match="does not match the latest Revision Id"):
        await deployed.functions.update_configuration(KEY, Settings(timeout_s=9), "stale")
    current = deployed.functions.version(KEY).revision_id
    await deployed.functions.update_configuration(KEY, Settings(timeout_s=9), current)


async def test_a_dry_run_describes_the_code_and_stores_nothing(
    deployed: Registry, blobs: BlobStore
) -> None:
    before = deployed.functions.version(KEY)
    answer = await deployed.functions.update_code(
        NewCode(key=KEY, package=OTHER_ZIP, is_dry_run=True)
    )
    assert answer.code.digest == OTHER_DIGEST
    assert deployed.functions.version(KEY) is before
    assert not blobs.contains(OTHER_DIGEST)


async def test_code_is_removed_with_its_last_user_and_not_before(
    deployed: Registry, blobs: BlobStore
) -> None:
    twin = (ACCOUNT, "us-east-1", "twin")
    await deployed.functions.create(new_function(twin))
    await deployed.functions.delete(KEY)
    await settle(deployed)
    assert blobs.contains(DIGEST)
    await deployed.functions.delete(twin)
    await settle(deployed)
    assert not blobs.contains(DIGEST)


async def test_a_deleted_function_is_gone_and_its_environments_are_retired(
    deployed: Registry, activator: FakeActivator
) -> None:
    await deployed.functions.delete(KEY)
    await settle(deployed)
    assert activator.retired == [(KEY, None)]
    with pytest.raises(ResourceNotFound, match=f"Function not found: {ARN}$"):
        await deployed.functions.delete(KEY)


async def test_deleting_during_an_activation_does_not_bring_the_function_back(
    registry: Registry, activator: FakeActivator, documents: MemoryDocuments
) -> None:
    activator.gate.clear()
    await registry.functions.create(new_function())
    await registry.functions.delete(KEY)
    await registry.functions.create(new_function(package=OTHER_ZIP))
    activator.gate.set()
    await settle(registry)
    assert registry.functions.version(KEY).code.digest == OTHER_DIGEST
    assert registry.functions.version(KEY).state is State.ACTIVE


async def test_a_change_is_finished_even_if_its_caller_goes_away(
    registry: Registry,
) -> None:
    task = asyncio.create_task(registry.functions.create(new_function()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle(registry)
    assert registry.functions.version(KEY).state is State.ACTIVE


async def test_a_change_that_cannot_be_stored_changes_nothing(
    blobs: BlobStore, activator: FakeActivator
) -> None:
    documents = BrokenDocuments()
    registry = Registry(documents, blobs, activator=activator)
    await registry.load()
    await registry.functions.create(new_function())
    await settle(registry)
    before = registry.concurrency.usage(ACCOUNT, REGION)
    documents.is_full = True
    with pytest.raises(OSError, match="No space left"):
        await registry.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
    with pytest.raises(OSError, match="No space left"):
        await registry.functions.delete(KEY)
    await settle(registry)
    assert registry.functions.version(KEY).code.digest == DIGEST
    assert registry.concurrency.usage(ACCOUNT, REGION) == before
    assert blobs.contains(DIGEST)
    assert not blobs.contains(OTHER_DIGEST)


async def test_the_account_can_store_only_so_much_code(
    deployed: Registry, monkeypatch: pytest.MonkeyPatch, blobs: BlobStore
) -> None:
    monkeypatch.setattr(limits, "CODE_STORAGE_MAX_BYTES", len(ZIP) + 1)
    other = (ACCOUNT, REGION, "other")
    with pytest.raises(CodeStorageExceeded):
        await deployed.functions.create(new_function(other, OTHER_ZIP))
    assert not blobs.contains(OTHER_DIGEST)
    # Another region is another world.
    await deployed.functions.create(new_function((ACCOUNT, "us-east-1", "other")))


async def test_accounts_and_regions_are_separate_worlds(deployed: Registry) -> None:
    elsewhere = ("999999999999", REGION, "greeter")
    await deployed.functions.create(new_function(elsewhere, OTHER_ZIP))
    assert [f.key for f in deployed.functions.all(ACCOUNT, REGION)] == [KEY]
    assert [f.key for f in deployed.functions.all("999999999999", REGION)] == [elsewhere]
    assert list(deployed.functions.all(ACCOUNT, "us-east-1")) == []


async def test_functions_are_listed_by_name_from_any_name_on(registry: Registry) -> None:
    names = ["delta", "alpha", "charlie", "bravo"]
    for name in names:
        await registry.functions.create(new_function((ACCOUNT, REGION, name)))
    for since in ("", "alpha", "b", "charlie", "charlie-2", "e"):
        listed = [f.latest.name for f in registry.functions.all(ACCOUNT, REGION, since)]
        assert listed == [name for name in sorted(names) if name >= since]
    await registry.functions.delete((ACCOUNT, REGION, "bravo"))
    listed = [f.latest.name for f in registry.functions.all(ACCOUNT, REGION)]
    assert listed == ["alpha", "charlie", "delta"]


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"timeout_s": 901}, ValidationError, "'901' at 'timeout' .* less than or equal to 900"),
        ({"memory_mib": 10_241}, ValidationError, "'memorySize' .* less than or equal to 10240"),
        (
            {"extras": {"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": []}}},
            InvalidParameterValue,
            "^SubnetIds and SecurityIds must coexist or be both empty list.$",
        ),
        ({"ephemeral_mib": 10_241}, ValidationError, "'ephemeralStorage.size'"),
        (
            {"environment": {"AWS_REGION": "x", "_HANDLER": "y", "FINE": "z"}},
            InvalidParameterValue,
            "Reserved keys used in this request: AWS_REGION, _HANDLER$",
        ),
        (
            {"environment": {"NAME": "v" * 4096}},
            InvalidParameterValue,
            r'exceeded the 4KB limit. String measured: {"NAME":"v+"}$',
        ),
        ({"runtime": "python2.7"}, InvalidParameterValue, "python2.7 is no longer supported"),
        (
            {"runtime": "PYTHON3.9"},
            InvalidParameterValue,
            r"^Value PYTHON3.9 at 'runtime' .* enum value set: \[nodejs20.x, .* valid ARN$",
        ),
        ({"runtime": "custom"}, NotYetImplemented, "custom"),
        ({"runtime": None}, InvalidParameterValue, "Runtime and Handler are mandatory"),
        ({"handler": None}, InvalidParameterValue, "Runtime and Handler are mandatory"),
        (
            {"runtime": "nodejs22.x", "snap_start": "PublishedVersions"},
            InvalidParameterValue,
            "nodejs22.x is not supported for SnapStart enabled functions",
        ),
        (
            {"logging": LoggingSettings(application_log_level="DEBUG")},
            InvalidParameterValue,
            "only when LogFormat is JSON",
        ),
    ],
)
async def test_settings_that_aws_refuses_are_refused_with_its_sentence(
    registry: Registry, settings: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        await registry.functions.create(new_function(**settings))


async def test_the_environment_is_measured_as_json(registry: Registry) -> None:
    # {"N":"…"} is the value and eight bytes more.
    fits = {"N": "v" * (4096 - 8)}
    await registry.functions.create(new_function(environment=fits))
    with pytest.raises(InvalidParameterValue, match="4KB"):
        await registry.functions.update_configuration(
            KEY, Settings(environment={"N": "v" * (4096 - 7)}), None
        )


async def test_json_logging_has_levels_and_text_logging_has_none(deployed: Registry) -> None:
    json = Settings(logging=LoggingSettings(log_format="JSON", application_log_level="DEBUG"))
    logging = (await deployed.functions.update_configuration(KEY, json, None)).logging
    assert (logging.application_log_level, logging.system_log_level) == ("DEBUG", "INFO")
    assert logging.log_group == "/aws/lambda/greeter"
    await settle(deployed)
    text = Settings(logging=LoggingSettings(log_format="Text"))
    logging = (await deployed.functions.update_configuration(KEY, text, None)).logging
    assert (logging.application_log_level, logging.system_log_level) == (None, None)


async def test_extras_are_kept_merged_and_removed(deployed: Registry) -> None:
    queue = {"TargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"}
    first = Settings(extras={"KMSKeyArn": "arn:aws:kms:x", "DeadLetterConfig": queue})
    await deployed.functions.update_configuration(KEY, first, None)
    await settle(deployed)
    second = Settings(extras={"KMSKeyArn": None})
    version = await deployed.functions.update_configuration(KEY, second, None)
    assert version.extras == {"DeadLetterConfig": queue}


@pytest.mark.parametrize(
    ("arn", "path", "sentence"),
    [
        (
            ACCESS_POINT.replace("fsap-0", "fsap-1"),
            "/mnt/x",
            "Error occurred while DescribeAccessPoints. EFS Error Code: AccessPointNotFound. EFS"
            " Error Message: Access point fsap-1123456789abcdef0 does not exist.",
        ),
        (ACCESS_POINT, "/mnt/..", "The local mount path /mnt/.. is not a directory of /mnt."),
        (ACCESS_POINT, "/mnt/.", "The local mount path /mnt/. is not a directory of /mnt."),
    ],
)
async def test_file_systems_that_cannot_be_mounted_are_refused(
    deployed: Registry, arn: str, path: str, sentence: str
) -> None:
    settings = Settings(extras={"FileSystemConfigs": [{"Arn": arn, "LocalMountPath": path}]})
    with pytest.raises(InvalidParameterValue) as caught:
        await deployed.functions.update_configuration(KEY, settings, None)
    assert caught.value.message == sentence


async def test_file_systems_are_kept_and_removed(deployed: Registry) -> None:
    config = {"Arn": ACCESS_POINT, "LocalMountPath": "/mnt/shared"}
    vpc = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    settings = Settings(extras={"FileSystemConfigs": [config], "VpcConfig": vpc})
    version = await deployed.functions.update_configuration(KEY, settings, None)
    assert version.file_systems == ((ACCESS_POINT, "/mnt/shared"),)
    await settle(deployed)
    settings = Settings(extras={"FileSystemConfigs": None})
    version = await deployed.functions.update_configuration(KEY, settings, None)
    assert version.file_systems == ()


LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:tools"


@pytest.mark.parametrize(
    ("arns", "sentence"),
    [
        ([f"{LAYER}:9"], f"Layer version {LAYER}:9 does not exist."),
        ([f"{LAYER}:0"], "Layer Version Cannot be less than 1"),
        ([f"{LAYER}:1"] * 6, "Cannot reference more than 5 layers."),
        (
            [f"{LAYER}:1", f"{LAYER}:2"],
            "Two different versions of the same layer are not allowed to be referenced in the same"
            f" function. {LAYER}:1 and {LAYER}:2 are versions of the same layer.",
        ),
        (
            [f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:tools:1"],
            "Layers are not in the same region as the function. Layers are expected to be in"
            f" region {REGION}.",
        ),
    ],
)
async def test_layers_that_cannot_be_used_are_refused(
    registry: Registry, arns: list[str], sentence: str
) -> None:
    for _ in range(2):
        await registry.layers.publish(NewLayerVersion(key=(ACCOUNT, REGION, "tools"), package=ZIP))
    with pytest.raises(InvalidParameterValue) as caught:
        await registry.functions.create(new_function(layers=tuple(arns)))
    assert caught.value.message == sentence


async def test_the_recursion_setting_is_kept(deployed: Registry) -> None:
    assert deployed.functions.get(KEY).recursive_loop == "Terminate"
    await deployed.functions.set_recursive_loop(KEY, "Allow")
    assert deployed.functions.get(KEY).recursive_loop == "Allow"
