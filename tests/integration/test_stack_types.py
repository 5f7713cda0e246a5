"""Every type of resource that a stack may have, on a real platform: created, changed in place,
replaced where CloudFormation replaces, and deleted. Each step is taken twice, as after a deployment
that was killed before it knew of the first."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from firelet.stacks.errors import StackError
from firelet.stacks.packages import PackageFolder
from firelet.stacks.plan import Change
from firelet.stacks.stack import Place, delete_stack, deploy_stack, make_types
from firelet.stacks.state import ResourceState, StateFile
from running_platform import ACCOUNT, PYTHON, REGION, TRUST, Platform, pack
from stack_runs import Stacks

pytest_plugins = ("platform_fixtures",)
pytest.importorskip("yaml", reason="the extra `sam` is missing")

Resources = dict[str, dict[str, Any]]
CODE = "import os\ndef handler(event, context):\n    return [%d, os.environ.get('COLOUR')]\n"
ROLE = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}}
QUEUES = f"arn:aws:sqs:{REGION}:{ACCOUNT}"


def function(**properties: Any) -> dict[str, Any]:
    return {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Runtime": PYTHON,
            "Handler": "index.handler",
            "Role": {"Fn::GetAtt": ["Role", "Arn"]},
            "Code": {"ZipFile": CODE % 1},
            **properties,
        },
    }


def arn(name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [name, "Arn"]}


def policy(*actions: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


class OneStack:
    """One stack, deployed again and again. Ref of each resource is an output."""

    def __init__(self, platform: Platform, folder: Path, name: str) -> None:
        self.name = name
        self.platform = platform
        self.functions = platform.client("lambda")
        self.iam = platform.client("iam")
        self.logs = platform.client("logs")
        self.ids: dict[str, Any] = {}
        self._types = make_types(platform.client, PackageFolder(folder / "states", name))
        self._path = folder / "template.json"
        self._place = Place(
            clients=platform.client, account=ACCOUNT, region=REGION, states=folder / "states"
        )

    def deploy(self, resources: Mapping[str, Any], **outputs: Any) -> list[str]:
        """What was done, as ``action LogicalId``; the same again does nothing."""
        values = {name: {"Ref": name} for name in resources} | outputs
        template = {
            "Resources": resources,
            "Outputs": {name: {"Value": value} for name, value in values.items()},
        }
        changes = self.apply(template)
        ids = self.ids
        assert self.apply(template) == []
        assert self.ids == ids
        return changes

    def apply(self, template: Mapping[str, Any]) -> list[str]:
        before = self._read_state()
        self._path.write_text(json.dumps(template))
        changes: list[Change] = []
        deployed = deploy_stack(
            self._place, self.name, self._path, {}, Path.read_bytes, changes.append
        )
        assert deployed.left == ""
        self.ids = dict(deployed.outputs)
        self._check_steps_again(before, self._read_state())
        return [f"{item.action} {item.logical_id}" for item in changes if item.action != "keep"]

    def delete(self) -> None:
        resources = self._read_state()
        delete_stack(self._place, self.name, lambda change: None)
        for item in reversed(resources.values()):
            kind = self._types[item.type]
            kind.delete(item.physical_id, item.properties)

    def _check_steps_again(
        self, before: Mapping[str, ResourceState], after: Mapping[str, ResourceState]
    ) -> None:
        """What was made is found, an update may be repeated, and so may a deletion."""
        for name, item in after.items():
            kind, old = self._types[item.type], before.get(name)
            assert item.physical_id in kind.find(item.name, item.properties)
            if old is None or old.properties == item.properties:
                continue
            if old.physical_id == item.physical_id:
                kind.update(item.physical_id, old.properties, item.properties)
            else:
                assert old.physical_id not in kind.find(old.name, old.properties)
                kind.delete(old.physical_id, old.properties)

    def _read_state(self) -> dict[str, ResourceState]:
        state = StateFile(self._place.states, self.name).load()
        return {} if state is None else state.resources


@pytest.fixture
def stack(platform: Platform, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OneStack]:
    stacks = Stacks(platform, tmp_path)
    yield OneStack(platform, tmp_path, request.node.name.removeprefix("test_")[:20].rstrip("_"))
    stacks.check_nothing_left()


def test_a_function(stack: OneStack) -> None:
    first: Resources = {"Role": ROLE, "Other": ROLE, "F": function()}
    stack.deploy(first)
    name = stack.ids["F"]
    full = function(
        Architectures=["x86_64"],
        Code={"ZipFile": CODE % 2},
        DeadLetterConfig={"TargetArn": f"{QUEUES}:dead"},
        Description="full",
        Environment={"Variables": {"COLOUR": "red"}},
        EphemeralStorage={"Size": 1_024},
        KmsKeyArn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{'1' * 8}-1111-1111-1111-{'1' * 12}",
        LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "WARN"},
        MemorySize="256",
        RecursiveLoop="Allow",
        ReservedConcurrentExecutions=3,
        Role=arn("Other"),
        RuntimeManagementConfig={"UpdateRuntimeOn": "FunctionUpdate"},
        Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": 2}],
        Timeout="7",
        TracingConfig={"Mode": "Active"},
    )
    assert stack.deploy({**first, "F": full}) == ["update F"]
    assert stack.ids["F"] == name
    assert stack.platform.invoke(name).json == [2, "red"]
    found = stack.functions.get_function(FunctionName=name)
    settings = found["Configuration"]
    assert found["Tags"] == {"a": "1", "b": "2"}
    assert found["Concurrency"] == {"ReservedConcurrentExecutions": 3}
    assert (settings["MemorySize"], settings["Timeout"]) == (256, 7)
    assert (settings["Description"], settings["TracingConfig"]["Mode"]) == ("full", "Active")
    assert settings["EphemeralStorage"] == {"Size": 1_024}
    assert settings["LoggingConfig"]["LogFormat"] == "JSON"
    assert settings["DeadLetterConfig"]["TargetArn"].endswith(":dead")
    assert settings["KMSKeyArn"].endswith("1" * 12)
    assert settings["Role"].endswith(stack.ids["Other"])
    loop = stack.functions.get_function_recursion_config(FunctionName=name)
    assert loop["RecursiveLoop"] == "Allow"
    management = stack.functions.get_runtime_management_config(FunctionName=name)
    assert management["UpdateRuntimeOn"] == "FunctionUpdate"

    # What the template no longer has is as it was at the beginning.
    assert stack.deploy(first) == ["update F"]
    assert stack.platform.invoke(name).json == [1, None]
    bare = stack.functions.get_function(FunctionName=name)
    settings = bare["Configuration"]
    assert "Tags" not in bare
    assert "Concurrency" not in bare
    assert not {"DeadLetterConfig", "KMSKeyArn"} & settings.keys()
    assert not (settings.get("Environment") or {}).get("Variables")
    assert (settings["MemorySize"], settings["Timeout"], settings["Description"]) == (128, 3, "")
    assert settings["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"}
    loop = stack.functions.get_function_recursion_config(FunctionName=name)
    assert loop["RecursiveLoop"] == "Terminate"

    # A name takes another function.
    named = {**first, "F": function(FunctionName="stack-types-own")}
    assert stack.deploy(named, Arn=arn("F")) == ["replace F", "delete F"]
    assert stack.ids["Arn"].endswith(":function:stack-types-own")
    with pytest.raises(stack.functions.exceptions.ResourceNotFoundException):
        stack.functions.get_function(FunctionName=name)
    stack.delete()


def test_versions_and_aliases(stack: OneStack) -> None:
    def resources(**alias: Any) -> Resources:
        properties = {"FunctionName": {"Ref": "F"}, "Name": "live", **alias}
        return {
            "Role": ROLE,
            "F": function(),
            "One": {
                "Type": "AWS::Lambda::Version",
                "Properties": {"FunctionName": {"Ref": "F"}, "Description": "one"},
            },
            "Live": {"Type": "AWS::Lambda::Alias", "Properties": properties},
        }

    number = {"Fn::GetAtt": ["One", "Version"]}
    stack.deploy(resources(FunctionVersion=number), Number=number)
    assert stack.ids["Number"] == "1"
    assert stack.ids["One"].endswith(f"{stack.ids['F']}:1")
    alias = {"FunctionName": stack.ids["F"], "Name": "live"}

    provided = resources(
        FunctionVersion=number, ProvisionedConcurrencyConfig={"ProvisionedConcurrentExecutions": 1}
    )
    assert stack.deploy(provided) == ["update Live"]
    qualified = {"FunctionName": stack.ids["F"], "Qualifier": "live"}
    found = stack.functions.get_provisioned_concurrency_config(**qualified)
    assert found["RequestedProvisionedConcurrentExecutions"] == 1

    # The second version exists beside the first, and takes a part of the calls.
    two = resources(
        FunctionVersion={"Fn::GetAtt": ["Two", "Version"]},
        Description="both",
        RoutingConfig={
            "AdditionalVersionWeights": [{"FunctionVersion": number, "FunctionWeight": "0.25"}]
        },
    )
    two["F"] = function(Code={"ZipFile": CODE % 2})
    two["Two"] = {
        "Type": "AWS::Lambda::Version",
        "Properties": {"FunctionName": {"Ref": "F"}},
        "DependsOn": ["One"],
    }
    assert stack.deploy(two) == ["update F", "create Two", "update Live"]
    found = stack.functions.get_alias(**alias)
    assert (found["FunctionVersion"], found["Description"]) == ("2", "both")
    assert found["RoutingConfig"] == {"AdditionalVersionWeights": {"1": 0.25}}
    with pytest.raises(stack.functions.exceptions.ProvisionedConcurrencyConfigNotFoundException):
        stack.functions.get_provisioned_concurrency_config(**qualified)

    # Back to one version: the other is deleted once the alias has left it.
    one = resources(FunctionVersion=number)
    one["F"] = two["F"]
    assert stack.deploy(one) == ["update Live", "delete Two"]
    found = stack.functions.get_alias(**alias)
    assert (found["FunctionVersion"], found["Description"]) == ("1", "")
    assert "RoutingConfig" not in found
    versions = stack.functions.list_versions_by_function(FunctionName=stack.ids["F"])["Versions"]
    assert [item["Version"] for item in versions] == ["$LATEST", "1"]

    # Another description is another version, another name another alias.
    one["One"]["Properties"]["Description"] = "three"
    one["Live"]["Properties"]["Name"] = "stable"
    changes = stack.deploy(one, Number=number)
    assert changes == ["replace One", "replace Live", "delete Live", "delete One"]
    assert stack.ids["Number"] == "3"
    stack.delete()


def test_a_version_takes_a_change_of_the_function(stack: OneStack) -> None:
    version = {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "F"}}}
    resources: Resources = {"Role": ROLE, "F": function(), "One": version}
    stack.deploy(resources)
    two = {**version, "DependsOn": "One"}
    with pytest.raises(StackError, match=r"A version for this Lambda function exists \( 1 \)"):
        stack.deploy({**resources, "Two": two})
    versions = stack.functions.list_versions_by_function(FunctionName=stack.ids["F"])["Versions"]
    assert [item["Version"] for item in versions] == ["$LATEST", "1"]
    stack.delete()


def test_permissions(stack: OneStack) -> None:
    def resources(account: str) -> Resources:
        properties = {
            "FunctionName": {"Ref": "F"},
            "Action": "lambda:InvokeFunction",
            "Principal": "s3.amazonaws.com",
            "SourceArn": "arn:aws:s3:::bucket",
            "SourceAccount": account,
        }
        permission = {"Type": "AWS::Lambda::Permission", "Properties": properties}
        return {"Role": ROLE, "F": function(), "P": permission}

    def statements() -> Any:
        answer = stack.functions.get_policy(FunctionName=stack.ids["F"])
        return json.loads(answer["Policy"])["Statement"]

    stack.deploy(resources(ACCOUNT))
    (statement,) = statements()
    assert statement["Sid"] == stack.ids["P"]
    assert stack.deploy(resources("111111111111")) == ["replace P", "delete P"]
    (statement,) = statements()
    assert statement["Condition"]["StringEquals"] == {"AWS:SourceAccount": "111111111111"}
    without = resources("")
    del without["P"]
    assert stack.deploy(without) == ["delete P"]
    with pytest.raises(stack.functions.exceptions.ResourceNotFoundException):
        statements()
    stack.delete()


def test_urls(stack: OneStack) -> None:
    def resources(**properties: Any) -> Resources:
        given = {"TargetFunctionArn": arn("F"), "AuthType": "AWS_IAM", **properties}
        return {
            "Role": ROLE,
            "F": function(),
            "U": {"Type": "AWS::Lambda::Url", "Properties": given},
        }

    address = {"Fn::GetAtt": ["U", "FunctionUrl"]}
    stack.deploy(resources(), Address=address)
    first = stack.ids["Address"]
    cors = {"AllowOrigins": ["https://example.com"], "MaxAge": "60"}
    changed = resources(AuthType="NONE", Cors=cors, InvokeMode="RESPONSE_STREAM")
    assert stack.deploy(changed, Address=address) == ["update U"]
    found = stack.functions.get_function_url_config(FunctionName=stack.ids["F"])
    assert found["FunctionUrl"] == first == stack.ids["Address"]
    assert (found["AuthType"], found["InvokeMode"]) == ("NONE", "RESPONSE_STREAM")
    assert found["Cors"] == {"AllowOrigins": ["https://example.com"], "MaxAge": 60}
    assert stack.deploy(resources()) == ["update U"]
    found = stack.functions.get_function_url_config(FunctionName=stack.ids["F"])
    assert found["InvokeMode"] == "BUFFERED"
    assert not found.get("Cors")

    # Another target is another address.
    moved = resources(Qualifier={"Fn::GetAtt": ["A", "Name"]})
    moved["V"] = {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "F"}}}
    live = {"FunctionName": {"Ref": "F"}, "Name": "live"}
    live["FunctionVersion"] = {"Fn::GetAtt": ["V", "Version"]}
    moved["A"] = {"Type": "AWS::Lambda::Alias", "Properties": live}
    moved["U"]["Properties"]["Qualifier"] = "live"
    moved["U"]["DependsOn"] = "A"
    assert stack.deploy(moved) == ["create V", "create A", "replace U", "delete U"]
    assert stack.ids["U"].endswith(":live")
    stack.delete()


def test_layers(stack: OneStack, tmp_path: Path) -> None:
    (tmp_path / "layer.zip").write_bytes(pack({"python/tool.py": "WORD = 'one'\n"}))
    layer = {"Content": "layer.zip", "CompatibleRuntimes": [PYTHON], "Description": "tools"}
    resources: Resources = {
        "Role": ROLE,
        "L": {"Type": "AWS::Lambda::LayerVersion", "Properties": layer},
        "F": function(
            Layers=[{"Ref": "L"}],
            Code={"ZipFile": "import tool\ndef handler(e, c):\n    return tool.WORD\n"},
        ),
    }
    stack.deploy(resources)
    assert stack.ids["L"].endswith(":1")
    assert stack.platform.invoke(stack.ids["F"]).json == "one"
    layer["LayerName"] = "stack-types-tools"
    assert stack.deploy(resources) == ["replace L", "update F", "delete L"]
    (tmp_path / "layer.zip").write_bytes(pack({"python/tool.py": "WORD = 'two'\n"}))
    assert stack.deploy(resources) == ["replace L", "update F", "delete L"]
    assert stack.ids["L"].endswith(":stack-types-tools:2")
    assert stack.platform.invoke(stack.ids["F"]).json == "two"
    listed = stack.functions.list_layer_versions(LayerName="stack-types-tools")["LayerVersions"]
    assert [item["Version"] for item in listed] == [2]
    stack.delete()


def test_permissions_of_layers(stack: OneStack, tmp_path: Path) -> None:
    (tmp_path / "layer.zip").write_bytes(pack({"python/tool.py": "WORD = 'one'\n"}))
    layer = {"Type": "AWS::Lambda::LayerVersion", "Properties": {"Content": "layer.zip"}}
    given = {
        "LayerVersionArn": {"Ref": "L"},
        "Action": "lambda:GetLayerVersion",
        "Principal": "111111111111",
    }
    kind = "AWS::Lambda::LayerVersionPermission"
    resources: Resources = {"L": layer, "P": {"Type": kind, "Properties": given}}
    stack.deploy(resources, Id={"Fn::GetAtt": ["P", "Id"]})
    assert stack.ids["Id"].startswith(f"{stack.ids['L']}#")
    given["Principal"] = "*"
    assert stack.deploy(resources) == ["replace P", "delete P"]
    name, _, number = stack.ids["L"].rpartition(":")
    answer = stack.functions.get_layer_version_policy(LayerName=name, VersionNumber=int(number))
    (statement,) = json.loads(answer["Policy"])["Statement"]
    assert statement["Principal"] == "*"
    stack.delete()


def test_code_signing_configs(stack: OneStack) -> None:
    def resources(**properties: Any) -> Resources:
        profile = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/release/abcdefghij"
        given = {"AllowedPublishers": {"SigningProfileVersionArns": [profile]}, **properties}
        signing = {"CodeSigningConfigArn": {"Ref": "S"}} if properties else {}
        return {
            "Role": ROLE,
            "F": function(**signing),
            "S": {"Type": "AWS::Lambda::CodeSigningConfig", "Properties": given},
        }

    full: dict[str, Any] = {"Description": "ours", "Tags": [{"Key": "a", "Value": "1"}]}
    stack.deploy(resources())
    function_name = {"FunctionName": stack.ids["F"]}
    assert stack.deploy(resources(**full)) == ["update S", "update F"]
    found = stack.functions.get_function_code_signing_config(**function_name)
    assert found["CodeSigningConfigArn"] == stack.ids["S"]
    config = stack.functions.get_code_signing_config(CodeSigningConfigArn=stack.ids["S"])
    assert config["CodeSigningConfig"]["Description"] == "ours"
    assert stack.deploy(resources()) == ["update S", "update F"]
    found = stack.functions.get_function_code_signing_config(**function_name)
    assert "CodeSigningConfigArn" not in found
    full["CodeSigningPolicies"] = {"UntrustedArtifactOnDeployment": "Enforce"}
    stack.deploy({"S": resources(**full)["S"]})
    config = stack.functions.get_code_signing_config(CodeSigningConfigArn=stack.ids["S"])
    policies = config["CodeSigningConfig"]["CodeSigningPolicies"]
    assert policies == {"UntrustedArtifactOnDeployment": "Enforce"}
    tags = stack.functions.list_tags(Resource=stack.ids["S"])["Tags"]
    assert tags == {"a": "1"}
    arn = stack.ids["S"]
    stack.delete()
    left = stack.functions.get_paginator("list_code_signing_configs").paginate()
    arns = [
        config["CodeSigningConfigArn"] for page in left for config in page["CodeSigningConfigs"]
    ]
    assert arn not in arns


def test_policies_of_one_role(stack: OneStack) -> None:
    def resources(role: str, *actions: str) -> Resources:
        given = {"PolicyName": "own", "RoleName": {"Ref": role}, "PolicyDocument": policy(*actions)}
        kind = "AWS::IAM::RolePolicy"
        return {"A": ROLE, "B": ROLE, "P": {"Type": kind, "Properties": given}}

    stack.deploy(resources("A", "logs:*"))
    assert stack.deploy(resources("A", "sqs:*")) == ["update P"]
    found = stack.iam.get_role_policy(RoleName=stack.ids["A"], PolicyName="own")
    assert found["PolicyDocument"] == policy("sqs:*")
    assert stack.deploy(resources("B", "sqs:*")) == ["replace P", "delete P"]
    assert stack.iam.list_role_policies(RoleName=stack.ids["A"])["PolicyNames"] == []
    assert stack.iam.list_role_policies(RoleName=stack.ids["B"])["PolicyNames"] == ["own"]
    stack.delete()


def test_event_invoke_configs(stack: OneStack) -> None:
    def resources(**properties: Any) -> Resources:
        given = {"FunctionName": {"Ref": "F"}, "Qualifier": "$LATEST", **properties}
        return {
            "Role": ROLE,
            "F": function(),
            "G": function(),
            "C": {"Type": "AWS::Lambda::EventInvokeConfig", "Properties": given},
        }

    def read(name: str) -> Any:
        return stack.functions.get_function_event_invoke_config(FunctionName=stack.ids[name])

    stack.deploy(resources(MaximumRetryAttempts=1, MaximumEventAgeInSeconds="60"))
    assert (read("F")["MaximumRetryAttempts"], read("F")["MaximumEventAgeInSeconds"]) == (1, 60)
    destination = {"OnFailure": {"Destination": arn("G")}}
    changes = stack.deploy(resources(MaximumRetryAttempts=0, DestinationConfig=destination))
    assert changes == ["update C"]
    assert read("F")["MaximumRetryAttempts"] == 0
    assert "MaximumEventAgeInSeconds" not in read("F")
    assert stack.ids["G"] in read("F")["DestinationConfig"]["OnFailure"]["Destination"]
    assert stack.deploy(resources(FunctionName={"Ref": "G"}, MaximumRetryAttempts=2)) == [
        "replace C",
        "delete C",
    ]
    with pytest.raises(stack.functions.exceptions.ResourceNotFoundException):
        read("F")
    assert read("G")["FunctionArn"].endswith(":$LATEST")
    stack.delete()


def test_event_source_mappings(stack: OneStack) -> None:
    def resources(source: str = f"{QUEUES}:jobs", **properties: Any) -> Resources:
        given = {"FunctionName": {"Ref": "F"}, "EventSourceArn": source, **properties}
        return {
            "Role": ROLE,
            "F": function(),
            "M": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": given},
        }

    def read() -> Any:
        return stack.functions.get_event_source_mapping(UUID=stack.ids["M"])

    pattern = {"Filters": [{"Pattern": json.dumps({"body": {"kind": ["a"]}})}]}
    stack.deploy(resources(), Arn={"Fn::GetAtt": ["M", "EventSourceMappingArn"]})
    first = stack.ids["M"]
    assert stack.ids["Arn"].endswith(first)
    full = resources(
        BatchSize="7",
        Enabled=False,
        FilterCriteria=pattern,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        MaximumBatchingWindowInSeconds=1,
        ScalingConfig={"MaximumConcurrency": 5},
        Tags=[{"Key": "a", "Value": "1"}],
    )
    assert stack.deploy(full) == ["update M"]
    found = read()
    assert (found["BatchSize"], found["State"]) == (7, "Disabled")
    assert found["FilterCriteria"] == pattern
    assert found["ScalingConfig"] == {"MaximumConcurrency": 5}
    tags = stack.functions.list_tags(Resource=found["EventSourceMappingArn"])["Tags"]
    assert tags == {"a": "1"}
    assert stack.deploy(resources()) == ["update M"]
    found = read()
    assert (found["BatchSize"], found["State"], found["UUID"]) == (10, "Enabled", first)
    assert found["MaximumBatchingWindowInSeconds"] == 0
    assert not found.get("ScalingConfig")
    assert "FilterCriteria" not in found
    assert not found.get("FunctionResponseTypes")

    # Another source is another mapping.
    stream = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/clicks"
    options = {"StartingPosition": "LATEST", "ParallelizationFactor": 2}
    moved = resources(stream, **options, MaximumRetryAttempts=3)
    assert stack.deploy(moved) == ["replace M", "delete M"]
    assert stack.ids["M"] != first
    assert stack.deploy(resources(stream, StartingPosition="LATEST")) == ["update M"]
    assert (read()["ParallelizationFactor"], read()["MaximumRetryAttempts"]) == (1, -1)

    kafka = resources(
        Topics=["orders"],
        StartingPosition="TRIM_HORIZON",
        SelfManagedEventSource={"Endpoints": {"KafkaBootstrapServers": ["k.example.com:9092"]}},
        SourceAccessConfigurations=[{"Type": "SASL_SCRAM_512_AUTH", "URI": secret()}],
    )
    del kafka["M"]["Properties"]["EventSourceArn"]
    assert stack.deploy(kafka) == ["replace M", "delete M"]
    assert read()["Topics"] == ["orders"]
    stack.delete()


def secret() -> str:
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:kafka"


def test_roles(stack: OneStack) -> None:
    def resources(**properties: Any) -> Resources:
        given = {"AssumeRolePolicyDocument": TRUST, **properties}
        return {"R": {"Type": "AWS::IAM::Role", "Properties": given}}

    basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    stack.deploy(resources(), Arn=arn("R"))
    name = stack.ids["R"]
    trust = json.loads(json.dumps(TRUST).replace("lambda.", "edgelambda."))
    full = resources(
        AssumeRolePolicyDocument=trust,
        Description="full",
        ManagedPolicyArns=[basic],
        MaxSessionDuration="7200",
        PermissionsBoundary=basic,
        Policies=[{"PolicyName": "own", "PolicyDocument": policy("logs:*")}],
        Tags=[{"Key": "a", "Value": "1"}],
    )
    assert stack.deploy(full) == ["update R"]
    role = stack.iam.get_role(RoleName=name)["Role"]
    assert role["AssumeRolePolicyDocument"] == trust
    assert (role["Description"], role["MaxSessionDuration"]) == ("full", 7_200)
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == basic
    assert role["Tags"] == [{"Key": "a", "Value": "1"}]
    assert stack.iam.list_role_policies(RoleName=name)["PolicyNames"] == ["own"]
    attached = stack.iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assert [item["PolicyArn"] for item in attached] == [basic]

    assert stack.deploy(resources()) == ["update R"]
    role = stack.iam.get_role(RoleName=name)["Role"]
    assert (role.get("Description", ""), role["MaxSessionDuration"]) == ("", 3_600)
    assert not {"PermissionsBoundary", "Tags"} & role.keys()
    assert stack.iam.list_role_policies(RoleName=name)["PolicyNames"] == []
    assert stack.iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == []

    assert stack.deploy(resources(Path="/team/"), Arn=arn("R")) == ["replace R", "delete R"]
    assert ":role/team/" in stack.ids["Arn"]
    stack.delete()


def test_policies(stack: OneStack) -> None:
    def resources(roles: list[str], **properties: Any) -> Resources:
        given = {"PolicyName": "own", "PolicyDocument": policy("logs:*"), **properties}
        given["Roles"] = [{"Ref": name} for name in roles]
        return {"A": ROLE, "B": ROLE, "P": {"Type": "AWS::IAM::Policy", "Properties": given}}

    def names(role: str) -> list[str]:
        found: list[str] = stack.iam.list_role_policies(RoleName=stack.ids[role])["PolicyNames"]
        return found

    stack.deploy(resources(["A"]))
    assert (names("A"), names("B")) == (["own"], [])
    assert stack.deploy(resources(["B"], PolicyName="other")) == ["update P"]
    assert (names("A"), names("B")) == ([], ["other"])
    changed = resources(["A", "B"], PolicyName="other", PolicyDocument=policy("sqs:*"))
    assert stack.deploy(changed) == ["update P"]
    found = stack.iam.get_role_policy(RoleName=stack.ids["A"], PolicyName="other")
    assert found["PolicyDocument"] == policy("sqs:*")
    stack.delete()


def test_managed_policies(stack: OneStack) -> None:
    def resources(roles: list[str], action: str = "logs:*", **properties: Any) -> Resources:
        given = {"PolicyDocument": policy(action), **properties}
        given["Roles"] = [{"Ref": name} for name in roles]
        kind = "AWS::IAM::ManagedPolicy"
        return {"A": ROLE, "B": ROLE, "P": {"Type": kind, "Properties": given}}

    stack.deploy(resources(["A"]))
    first = stack.ids["P"]
    # More often than a policy may have versions.
    for number in range(6):
        assert stack.deploy(resources(["B"], f"sqs:Get{number}")) == ["update P"]
    assert stack.ids["P"] == first
    default = stack.iam.get_policy(PolicyArn=first)["Policy"]["DefaultVersionId"]
    version = stack.iam.get_policy_version(PolicyArn=first, VersionId=default)["PolicyVersion"]
    assert version["Document"] == policy("sqs:Get5")
    entities = stack.iam.list_entities_for_policy(PolicyArn=first)["PolicyRoles"]
    assert [item["RoleName"] for item in entities] == [stack.ids["B"]]
    assert stack.deploy(resources(["B"], Description="new")) == ["replace P", "delete P"]
    assert stack.ids["P"] != first
    stack.delete()


def test_log_groups(stack: OneStack) -> None:
    def resources(**properties: Any) -> Resources:
        return {"G": {"Type": "AWS::Logs::LogGroup", "Properties": properties}}

    def read() -> Any:
        found = stack.logs.describe_log_groups(logGroupNamePrefix=stack.ids["G"])["logGroups"]
        return found[0]

    stack.deploy(resources(), Arn=arn("G"))
    group = stack.ids["Arn"].removesuffix(":*")
    tagged = resources(RetentionInDays="7", Tags=[{"Key": "a", "Value": "1"}])
    assert stack.deploy(tagged) == ["update G"]
    assert read()["retentionInDays"] == 7
    assert stack.logs.list_tags_for_resource(resourceArn=group)["tags"] == {"a": "1"}
    assert stack.deploy(resources()) == ["update G"]
    assert "retentionInDays" not in read()
    assert stack.logs.list_tags_for_resource(resourceArn=group)["tags"] == {}
    assert stack.deploy(resources(LogGroupName="/of/types")) == ["replace G", "delete G"]
    assert stack.ids["G"] == "/of/types"
    stack.delete()


def test_expressions_of_every_kind(stack: OneStack) -> None:
    """What each intrinsic function gives arrives at the platform."""
    parameters = {"Names": {"Type": "CommaDelimitedList", "Default": "a,b,c"}}
    variables = {
        "BASE64": {"Fn::Base64": "text"},
        "FIND": {"Fn::FindInMap": ["Map", {"Ref": "AWS::Region"}, "size"]},
        "IF": {"Fn::If": ["IsHere", "yes", "no"]},
        "JOIN": {"Fn::Join": ["-", {"Ref": "Names"}]},
        "NOTHING": {"Ref": "AWS::NoValue"},
        "SELECT": {"Fn::Select": [5, {"Fn::Split": [":", arn("Role")]}]},
        "SUFFIX": {"Ref": "AWS::URLSuffix"},
        "ID": {"Ref": "AWS::StackId"},
    }
    variables["SUB"] = {"Fn::Sub": ["${AWS::Partition} ${x} ${Role} ${!x}", {"x": "y"}]}
    code = "import os\ndef handler(event, context):\n    return dict(os.environ)\n"
    template = {
        "Parameters": parameters,
        "Mappings": {"Map": {REGION: {"size": "large"}}},
        "Conditions": {"IsHere": {"Fn::Equals": [{"Ref": "AWS::AccountId"}, ACCOUNT]}},
        "Resources": {
            "Role": ROLE,
            "F": function(Environment={"Variables": variables}, Code={"ZipFile": code}),
        },
        "Outputs": {"Name": {"Value": {"Ref": "F"}}, "Role": {"Value": {"Ref": "Role"}}},
    }
    stack.apply(template)
    seen = stack.platform.invoke(stack.ids["Name"]).json
    role = stack.ids["Role"]
    assert {name: seen.get(name) for name in variables} == {
        "BASE64": base64.b64encode(b"text").decode(),
        "FIND": "large",
        "IF": "yes",
        "JOIN": "a-b-c",
        "NOTHING": None,
        "SELECT": f"role/{role}",
        "SUB": f"aws y {role} ${{x}}",
        "SUFFIX": "amazonaws.com",
        "ID": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{stack.name}/firelet",
    }
    stack.delete()
