"""Layers in the registry: numbers, permissions, what functions keep of them, what is durable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firelet.control.configuration import Settings, check_unzipped
from firelet.control.functions import NewCode
from firelet.control.layers import NewLayerVersion
from firelet.control.registry import Registry
from firelet.model.errors import (
    AccessDenied,
    InvalidParameterValue,
    PolicyLengthExceeded,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
)
from firelet.model.layer import LayerKey, LayerPermission, LayerVersion
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from registry_parts import (
    ACCOUNT,
    KEY,
    OTHER_ZIP,
    REGION,
    ZIP,
    FakeActivator,
    make_zip,
    new_function,
    settle,
)

LAYER: LayerKey = (ACCOUNT, REGION, "tools")
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:tools"
STRANGER = "999999999999"
LAYER_ZIP = make_zip({"python/tool.py": "NAME = 'tool'\n"})
NEW = NewLayerVersion(key=LAYER, package=LAYER_ZIP)


async def publish(registry: Registry, package: bytes = LAYER_ZIP) -> LayerVersion:
    return await registry.layers.publish(replace(NEW, package=package))


async def test_numbers_grow_and_are_never_used_again(registry: Registry) -> None:
    assert [(await publish(registry)).number for _ in range(2)] == [1, 2]
    for number in (1, 2):
        await registry.layers.delete(LAYER, number)
    assert (await publish(registry)).number == 3


async def test_the_newest_version_comes_first(registry: Registry) -> None:
    for _ in range(11):
        await publish(registry)
    numbers = [version.number for version in registry.layers.versions(LAYER, None, None)]
    assert numbers == list(range(11, 0, -1))


async def test_versions_are_found_by_what_they_say_they_suit(registry: Registry) -> None:
    for runtimes, architectures in (
        (("python3.12",), ("x86_64",)),
        (("python3.12", "python3.13"), ("arm64",)),
        ((), ()),
    ):
        await registry.layers.publish(replace(NEW, runtimes=runtimes, architectures=architectures))

    def found(runtime: str | None, architecture: str | None) -> list[int]:
        versions = registry.layers.versions(LAYER, runtime, architecture)
        latest = registry.layers.latest(ACCOUNT, REGION, runtime, architecture)
        assert [one.number for one in latest] == [one.number for one in versions[:1]]
        return [version.number for version in versions]

    assert found("python3.12", None) == [2, 1]
    assert found("python3.12", "x86_64") == [1]
    assert found(None, "arm64") == [2]
    assert found("nodejs22.x", None) == []


async def test_layers_survive_a_restart(
    registry: Registry, documents: MemoryDocuments, blobs: BlobStore
) -> None:
    await publish(registry)
    second = await publish(registry, OTHER_ZIP)
    await registry.layers.add_permission(LAYER, 2, LayerPermission("all", "*"), None)
    await registry.layers.delete(LAYER, 1)
    before = registry.layers.get(ACCOUNT, LAYER, 2)

    again = Registry(documents, blobs, activator=FakeActivator())
    await again.load()

    assert again.layers.get(ACCOUNT, LAYER, 2) == before
    assert before.code == second.code
    assert (await publish(again)).number == 3
    await again.close()


async def test_code_storage_counts_layers(registry: Registry) -> None:
    await publish(registry)
    await registry.functions.create(new_function())
    used = len(LAYER_ZIP) + len(ZIP)
    assert registry._catalog.world(ACCOUNT, REGION).code_bytes == used
    await registry.layers.delete(LAYER, 1)
    assert registry._catalog.world(ACCOUNT, REGION).code_bytes == len(ZIP)


class TestUse:
    async def test_a_deleted_version_stays_with_the_functions_that_have_it(
        self, registry: Registry, blobs: BlobStore
    ) -> None:
        layer = await publish(registry)
        await registry.functions.create(new_function(layers=(layer.arn,)))
        await registry.layers.delete(LAYER, 1)

        version = registry.functions.version(KEY)
        assert [use.arn for use in version.layers] == [f"{ARN}:1"]
        assert blobs.contains(layer.code.digest)
        assert registry.is_code_needed(layer.code.digest)
        with pytest.raises(InvalidParameterValue, match=f"^Layer version {ARN}:1 does not exist.$"):
            await registry.functions.create(
                new_function((ACCOUNT, REGION, "other"), layers=(layer.arn,))
            )

        await registry.functions.delete(KEY)
        await settle(registry)
        assert not blobs.contains(layer.code.digest)

    async def test_a_layer_outlives_its_functions(
        self, registry: Registry, blobs: BlobStore
    ) -> None:
        layer = await publish(registry)
        await registry.functions.create(new_function(layers=(layer.arn,)))
        await registry.functions.delete(KEY)
        await settle(registry)
        assert blobs.contains(layer.code.digest)
        await registry.layers.delete(LAYER, 1)
        assert not blobs.contains(layer.code.digest)

    async def test_layers_are_replaced_and_removed_by_an_update(self, registry: Registry) -> None:
        await publish(registry)
        await publish(registry, OTHER_ZIP)
        await registry.functions.create(new_function(layers=(f"{ARN}:1",)))

        async def update(settings: Settings) -> list[str]:
            await settle(registry)
            version = await registry.functions.update_configuration(KEY, settings, None)
            return [use.arn for use in version.layers]

        assert await update(Settings(timeout_s=9)) == [f"{ARN}:1"]
        assert await update(Settings(layers=(f"{ARN}:2",))) == [f"{ARN}:2"]
        assert await update(Settings(layers=())) == []

    async def test_a_function_is_ready_when_its_layers_are(
        self, registry: Registry, activator: FakeActivator
    ) -> None:
        layer = await publish(registry)
        await registry.functions.create(new_function(layers=(layer.arn,)))
        (activated,) = activator.activated
        assert activated.digests == (activated.code.digest, layer.code.digest)

    async def test_another_account_needs_a_permission(self, registry: Registry) -> None:
        await publish(registry)
        theirs = (STRANGER, REGION, "greeter")
        sentence = (
            rf"^User: arn:aws:iam::{STRANGER}:root is not authorized to perform:"
            rf" lambda:GetLayerVersion on resource: {ARN}:1 because no resource-based policy"
            rf" allows the lambda:GetLayerVersion action$"
        )
        # Nobody belongs to an organization that this platform does not know.
        organization = LayerPermission("some", "*", "o-a1b2c3d4e5")
        for permission in (None, organization):
            if permission is not None:
                await registry.layers.add_permission(LAYER, 1, permission, None)
            with pytest.raises(AccessDenied, match=sentence):
                await registry.functions.create(new_function(theirs, layers=(f"{ARN}:1",)))
            with pytest.raises(AccessDenied, match=sentence):
                registry.layers.get(STRANGER, LAYER, 1)
        await registry.layers.add_permission(LAYER, 1, LayerPermission("one", STRANGER), None)
        assert registry.layers.get(STRANGER, LAYER, 1).number == 1
        created = await registry.functions.create(new_function(theirs, layers=(f"{ARN}:1",)))
        assert created.layers[0].arn == f"{ARN}:1"


class TestUnzippedSize:
    @pytest.fixture
    def limit(self, monkeypatch: pytest.MonkeyPatch) -> int:
        monkeypatch.setattr("firelet.model.limits.CODE_UNZIPPED_MAX_BYTES", 1_000)
        return 1_000

    @staticmethod
    def package(size: int) -> bytes:
        return make_zip({f"data-{size}": b"x" * size})

    async def test_code_and_layers_share_one_limit(self, registry: Registry, limit: int) -> None:
        await publish(registry, self.package(600))
        await registry.functions.create(
            new_function(package=self.package(400), layers=(f"{ARN}:1",))
        )
        await settle(registry)
        sentence = (
            "^Function code combined with layers exceeds the maximum allowed size of 1000 bytes."
            " The actual size is 1001 bytes.$"
        )
        with pytest.raises(InvalidParameterValue, match=sentence):
            await registry.functions.update_code(NewCode(key=KEY, package=self.package(401)))
        with pytest.raises(InvalidParameterValue, match=sentence):
            await registry.functions.create(
                new_function((ACCOUNT, REGION, "other"), self.package(401), layers=(f"{ARN}:1",))
            )

    async def test_layers_alone_can_be_too_large(self, registry: Registry, limit: int) -> None:
        await registry.functions.create(new_function(package=self.package(1)))
        await settle(registry)
        arns = []
        for name in ("a", "b"):
            layer = replace(NEW, key=(ACCOUNT, REGION, name), package=self.package(501))
            arns.append((await registry.layers.publish(layer)).arn)
        with pytest.raises(
            InvalidParameterValue,
            match=r"^Layers consume more than the available size of 1000 bytes$",
        ):
            await registry.functions.update_configuration(KEY, Settings(layers=tuple(arns)), None)

    def test_the_limit_itself_is_allowed(self) -> None:
        check_unzipped(262_143_999, 1)
        with pytest.raises(InvalidParameterValue, match=r"The actual size is 2621"):
            check_unzipped(262_144_000, 1)


class TestPolicy:
    async def test_a_revision_guards_the_policy(self, registry: Registry) -> None:
        first = (await publish(registry)).revision_id
        one = LayerPermission("one", "*")
        second = (await registry.layers.add_permission(LAYER, 1, one, first)).revision_id
        assert second != first
        sentence = "Call the GetLayerPolicy API to retrieve the latest Revision Id$"
        with pytest.raises(PreconditionFailed, match=sentence):
            await registry.layers.add_permission(LAYER, 1, LayerPermission("two", "*"), first)
        with pytest.raises(PreconditionFailed, match=sentence):
            await registry.layers.remove_permission(LAYER, 1, "one", first)
        await registry.layers.remove_permission(LAYER, 1, "one", second)
        with pytest.raises(ResourceNotFound, match=r"^No policy is associated with the given"):
            registry.layers.with_policy(LAYER, 1)

    async def test_a_statement_id_is_used_once(self, registry: Registry) -> None:
        await publish(registry)
        await registry.layers.add_permission(LAYER, 1, LayerPermission("s1", "*"), None)
        with pytest.raises(ResourceConflict, match=r"^The statement id \(s1\) provided already"):
            await registry.layers.add_permission(LAYER, 1, LayerPermission("s1", "*"), None)
        with pytest.raises(
            ResourceNotFound, match=r"^Statement s2 is not found in resource policy.$"
        ):
            await registry.layers.remove_permission(LAYER, 1, "s2", None)

    async def test_what_does_not_exist_has_no_policy(self, registry: Registry) -> None:
        sentence = f"^Layer version {ARN}:1 does not exist.$"
        with pytest.raises(ResourceNotFound, match=sentence):
            await registry.layers.add_permission(LAYER, 1, LayerPermission("s1", "*"), None)
        with pytest.raises(ResourceNotFound, match=sentence):
            await registry.layers.remove_permission(LAYER, 1, "s1", None)
        with pytest.raises(ResourceNotFound, match=sentence):
            registry.layers.with_policy(LAYER, 1)

    async def test_a_policy_has_a_length(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await publish(registry)
        await registry.layers.add_permission(LAYER, 1, LayerPermission("s1", "*"), None)
        size = len(registry.layers.with_policy(LAYER, 1).policy())
        monkeypatch.setattr("firelet.model.limits.POLICY_MAX_BYTES", size)
        with pytest.raises(
            PolicyLengthExceeded,
            match=rf"^The final policy size \(\d+\) is bigger than the limit \({size}\)\.$",
        ):
            await registry.layers.add_permission(LAYER, 1, LayerPermission("s2", "*"), None)

    @pytest.mark.parametrize(
        ("principal", "organization", "rest"),
        [
            ("*", None, '"Principal":"*",{}'),
            (STRANGER, None, f'"Principal":{{"AWS":"arn:aws:iam::{STRANGER}:root"}},{{}}'),
            (
                f"arn:aws:iam::{STRANGER}:root",
                None,
                f'"Principal":{{"AWS":"arn:aws:iam::{STRANGER}:root"}},{{}}',
            ),
            (
                "*",
                "o-a1b2c3d4e5",
                '"Principal":"*",{},"Condition":{"StringEquals":{"aws:PrincipalOrgID":'
                '"o-a1b2c3d4e5"}}',
            ),
        ],
    )
    async def test_statements_are_written_as_aws_writes_them(
        self, registry: Registry, principal: str, organization: str | None, rest: str
    ) -> None:
        await publish(registry)
        permission = LayerPermission("s1", principal, organization)
        version = await registry.layers.add_permission(LAYER, 1, permission, None)
        action = f'"Action":"lambda:GetLayerVersion","Resource":"{ARN}:1"'
        statement = '{"Sid":"s1","Effect":"Allow",' + rest.replace("{}", action, 1) + "}"
        assert version.policy() == (
            '{"Version":"2012-10-17","Id":"default","Statement":[' + statement + "]}"
        )
