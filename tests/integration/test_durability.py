"""What a platform has acknowledged survives its end, whether it was told to stop or was killed."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from running_platform import Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

VALUE = "def handler(event, context):\n    return {!r}\n"
WRITES = "import time\ndef handler(event, context):\n    time.sleep(1)\n    print('took', event)\n"

End = Callable[[Platform], Any]


@pytest.fixture(params=["stopped", "killed"])
def end(request: pytest.FixtureRequest) -> End:
    """Ends a platform in one of two ways and starts it again on the same data."""

    def end_and_start(platform: Platform) -> None:
        if request.param == "stopped":
            assert platform.stop() == 0
            assert platform.leftovers() == []
        else:
            platform.kill()
            wait_until(lambda: not platform.leftovers(), "a killed platform is cleaned up after")
        platform.start()

    return end_and_start


def snapshot(platform: Platform, name: str) -> dict[str, Any]:
    """All that can be read about a function and what belongs to it."""
    client = platform.client("lambda")
    iam = platform.client("iam")
    logs = platform.client("logs")
    arn = client.get_function_configuration(FunctionName=name)["FunctionArn"]
    found = {
        "versions": client.list_versions_by_function(FunctionName=name)["Versions"],
        "aliases": client.list_aliases(FunctionName=name)["Aliases"],
        "tags": client.list_tags(Resource=arn)["Tags"],
        "concurrency": client.get_function_concurrency(FunctionName=name),
        "settings": client.get_account_settings(),
        "roles": iam.list_roles()["Roles"],
        "attached": iam.list_attached_role_policies(RoleName="lambda-role")["AttachedPolicies"],
        "inline": iam.get_role_policy(RoleName="lambda-role", PolicyName="own")["PolicyDocument"],
        "groups": logs.describe_log_groups(logGroupNamePrefix="/kept")["logGroups"],
    }
    for item in found.values():
        if isinstance(item, dict):
            item.pop("ResponseMetadata", None)
    return found


def test_everything_acknowledged_is_there_after_a_restart(
    make_platform: Callable[..., Platform], end: End
) -> None:
    platform = make_platform()
    deploy, client = Deployer(platform), platform.client("lambda")
    name = deploy(VALUE.format("one"), Tags={"team": "red"})
    client.publish_version(FunctionName=name, Description="the first")
    deploy.update(name, VALUE.format("two"))
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=7)
    iam = platform.client("iam")
    iam.attach_role_policy(
        RoleName="lambda-role",
        PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
    )
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
    }
    iam.put_role_policy(
        RoleName="lambda-role", PolicyName="own", PolicyDocument=json.dumps(document)
    )
    platform.client("logs").create_log_group(logGroupName="/kept")
    platform.client("logs").put_retention_policy(logGroupName="/kept", retentionInDays=7)
    before = snapshot(platform, name)

    end(platform)

    assert snapshot(platform, name) == before
    said = {
        qualifier: platform.invoke(name, Qualifier=qualifier).json
        for qualifier in ("$LATEST", "1", "live")
    }
    assert said == {"$LATEST": "two", "1": "one", "live": "one"}


def test_a_deleted_function_stays_deleted(make_platform: Callable[..., Platform], end: End) -> None:
    platform = make_platform()
    deploy = Deployer(platform)
    kept, deleted = deploy(VALUE.format("kept")), deploy(VALUE.format("gone"))
    platform.client("lambda").delete_function(FunctionName=deleted)

    end(platform)

    listed = platform.client("lambda").list_functions()["Functions"]
    assert [item["FunctionName"] for item in listed] == [kept]
    assert platform.invoke(kept).json == "kept"


def test_every_acknowledged_event_is_run(make_platform: Callable[..., Platform], end: End) -> None:
    platform = make_platform()
    name = Deployer(platform)(WRITES, Timeout=10)

    with ThreadPoolExecutor(8) as pool:
        statuses = pool.map(
            lambda number: platform.invoke(name, number, InvocationType="Event").status, range(12)
        )
        assert list(statuses) == [202] * 12
    end(platform)

    def handled() -> set[str]:
        lines = platform.log_lines(f"/aws/lambda/{name}")
        return {line.strip() for line in lines if line.startswith("took ")}

    # Those that were being handled may be handled twice: delivery is at least once.
    wait_until(
        lambda: handled() == {f"took {number}" for number in range(12)},
        "all twelve events are handled",
        seconds=40,
    )


def test_log_lines_survive_a_restart(make_platform: Callable[..., Platform], end: End) -> None:
    platform = make_platform()
    name = Deployer(platform)("def handler(event, context):\n    print('kept')\n")
    answer = platform.invoke(name)
    group = f"/aws/lambda/{name}"
    wait_until(
        lambda: any(answer.request_id in line for line in platform.log_lines(group)), "it is read"
    )

    end(platform)

    assert "kept\n" in platform.log_lines(group)


def test_a_killed_platform_leaves_nothing_even_while_functions_run_and_are_frozen(
    make_platform: Callable[..., Platform],
) -> None:
    platform = make_platform(FIRELET_DRAIN_S="0.2")
    deploy = Deployer(platform)
    # One is frozen, one has children of its own, one is busy: each ends in another way.
    frozen = deploy("def handler(event, context):\n    return 1\n")
    forks = deploy(
        "import os, time\ndef handler(event, context):\n"
        "    for _ in range(5):\n        if os.fork() == 0:\n            time.sleep(600)\n"
        "    return 1\n"
    )
    busy = deploy("import time\ndef handler(event, context):\n    time.sleep(60)\n", Timeout=60)
    platform.invoke(frozen)
    platform.invoke(forks)
    platform.invoke(busy, InvocationType="Event")
    wait_until(lambda: platform.log_lines(f"/aws/lambda/{busy}"), "it has started")

    platform.kill()

    wait_until(lambda: not platform.leftovers(), "nothing is left")
    platform.start()
    assert platform.invoke(frozen).json == 1


def test_a_platform_told_to_stop_while_functions_run_stops_in_time(
    make_platform: Callable[..., Platform],
) -> None:
    platform = make_platform(FIRELET_DRAIN_S="0.2")
    name = Deployer(platform)(
        "import time\ndef handler(event, context):\n    time.sleep(60)\n", Timeout=60
    )
    platform.invoke(name, InvocationType="Event")
    wait_until(lambda: platform.log_lines(f"/aws/lambda/{name}"), "it has started")

    assert platform.stop() == 0

    assert platform.leftovers() == []


def test_a_second_platform_on_the_same_data_is_refused(
    make_platform: Callable[..., Platform], accepted: str | None
) -> None:
    platform = make_platform()
    second = Platform(platform.data_dir, accepted)

    with pytest.raises(pytest.fail.Exception, match=re.escape(str(platform.data_dir))):
        second.start()

    assert platform.client("lambda").list_functions()["Functions"] == []


def test_variables_of_functions_are_on_the_disk_as_ciphertext_only(
    end: End, make_platform: Callable[..., Platform]
) -> None:
    platform = make_platform()
    client, deploy = platform.client("lambda"), Deployer(platform)
    name = deploy(
        "import os\ndef handler(event, context):\n    return os.environ['PASSWORD']\n",
        Environment={"Variables": {"PASSWORD": "correct-horse-battery"}},
        Publish=True,
    )
    client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"PASSWORD": "correct-horse-staple"}}
    )
    deploy.settle(name)
    end(platform)

    said = [platform.invoke(name, Qualifier=version).json for version in ("1", "$LATEST")]
    assert said == ["correct-horse-battery", "correct-horse-staple"]
    files = [path for path in platform.data_dir.rglob("*") if path.is_file()]
    assert "metadata.db" in {path.name for path in files}
    assert not [path for path in files if b"correct-horse" in path.read_bytes()]
    key = platform.data_dir / "environment.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
