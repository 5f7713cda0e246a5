"""``firelet deploy template.yaml`` and ``firelet delete --stack``, against a real platform."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firelet.stacks.errors import StackError
from firelet.stacks.plan import Change
from firelet.stacks.stack import Place, delete_stack, deploy_stack
from running_platform import ACCOUNT, PYTHON, REGION, Platform
from stack_runs import Stacks

pytest_plugins = ("platform_fixtures",)
pytest.importorskip("samtranslator", reason="the extra `sam` is missing")

CODE = "import os\ndef handler(event, context):\n    return os.environ['GREETING'] + ' %d'\n"
SAM = f"""
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Greeting: {{Type: String, Default: hello}}
  Batch: {{Type: Number, Default: 5}}
Conditions:
  IsPolite: !Not [!Equals [!Ref Greeting, ""]]
Resources:
  Greeter:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src/
      Handler: app.handler
      Runtime: {PYTHON}
      AutoPublishAlias: live
      Policies: [AWSLambdaBasicExecutionRole]
      Environment:
        Variables:
          GREETING: !Sub "${{Greeting}} from ${{AWS::StackName}}"
      Events:
        Jobs:
          Type: SQS
          Properties:
            Queue: !Sub "arn:aws:sqs:${{AWS::Region}}:${{AWS::AccountId}}:jobs"
            BatchSize: !Ref Batch
  Logs:
    Type: AWS::Logs::LogGroup
    Condition: IsPolite
    Properties:
      LogGroupName: !Sub /aws/lambda/${{AWS::StackName}}-logs
      RetentionInDays: 7
Outputs:
  Alias: {{Value: !Ref Greeter.Alias}}
  Arn: {{Value: !GetAtt Greeter.Arn}}
"""
PLAIN = f"""
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Action: sts:AssumeRole
            Principal: {{Service: lambda.amazonaws.com}}
      Policies:
        - PolicyName: own
          PolicyDocument:
            Version: "2012-10-17"
            Statement: [{{Effect: Deny, Action: "sqs:*", Resource: "*"}}]
  Shared:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Roles: [!Ref Role]
      PolicyDocument:
        Version: "2012-10-17"
        Statement: [{{Effect: Allow, Action: "logs:*", Resource: "*"}}]
  Function:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: {PYTHON}
      Handler: index.handler
      Role: !GetAtt Role.Arn
      MemorySize: 128
      Tags: [{{Key: team, Value: blue}}]
      Code:
        ZipFile: |
          def handler(event, context):
              return context.memory_limit_in_mb
Outputs:
  Name: {{Value: !Ref Function}}
"""


@pytest.fixture
def stacks(platform: Platform, tmp_path: Path) -> Iterator[Stacks]:
    made = Stacks(platform, tmp_path)
    (tmp_path / "src").mkdir()
    write_code(made)
    yield made
    made.check_nothing_left()


def write_code(stacks: Stacks, version: int = 1) -> None:
    (stacks.folder / "src" / "app.py").write_text(CODE % version)


def test_a_sam_template_lives_from_deploy_to_delete(stacks: Stacks, platform: Platform) -> None:
    client = platform.client("lambda")
    path = stacks.write(SAM)
    outputs, changes = stacks.deploy(path, "one")
    assert platform.invoke(outputs["Alias"]).json == "hello from one 1"
    assert all(change.startswith("create ") for change in changes)
    (mapping,) = client.list_event_source_mappings(FunctionName=outputs["Alias"])[
        "EventSourceMappings"
    ]
    assert mapping["BatchSize"] == 5

    # The same again changes nothing.
    assert stacks.deploy(path, "one") == (outputs, [])

    # Another parameter changes what depends on it and nothing else.
    _, changes = stacks.deploy(path, "one", "--parameter", "Batch=7")
    assert changes == ["update AWS::Lambda::EventSourceMapping GreeterJobs"]
    assert client.get_event_source_mapping(UUID=mapping["UUID"])["BatchSize"] == 7

    # Other code is another version, to which the alias moves.
    write_code(stacks, version=2)
    outputs, changes = stacks.deploy(path, "one", "--parameter", "Batch=7")
    assert "update AWS::Lambda::Function Greeter" in changes
    assert platform.invoke(outputs["Alias"]).json == "hello from one 2"

    stacks.run("delete", "--stack", "one")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName=outputs["Arn"])
    assert (
        client.list_event_source_mappings(FunctionName=outputs["Alias"])["EventSourceMappings"]
        == []
    )
    assert "there is no stack one" in stacks.run("delete", "--stack", "one", expect=1).stderr


def test_a_plain_template_is_changed_by_difference(stacks: Stacks, platform: Platform) -> None:
    client, iam = platform.client("lambda"), platform.client("iam")
    outputs, _ = stacks.deploy(stacks.write(PLAIN), "two")
    name = outputs["Name"]
    assert platform.invoke(name).json == "128"
    assert name.startswith("two-Function-")
    assert client.get_function(FunctionName=name)["Tags"] == {"team": "blue"}

    changed = PLAIN.replace("MemorySize: 128", "MemorySize: 256").replace(
        "Value: blue", "Value: red"
    )
    _, changes = stacks.deploy(stacks.write(changed), "two")
    assert changes == ["update AWS::Lambda::Function Function"]
    assert platform.invoke(name).json == "256"
    assert client.get_function(FunctionName=name)["Tags"] == {"team": "red"}

    # A resource that the template no longer has is deleted.
    start, end = changed.index("  Shared:"), changed.index("  Function:\n")
    _, changes = stacks.deploy(stacks.write(changed[:start] + changed[end:]), "two")
    assert changes == ["delete AWS::IAM::ManagedPolicy Shared"]

    role = client.get_function_configuration(FunctionName=name)["Role"].rpartition("/")[2]
    stacks.run("delete", "--stack", "two")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName=role)


def test_an_unknown_type_changes_nothing(stacks: Stacks, platform: Platform) -> None:
    before = platform.client("iam").list_roles()["Roles"]
    template = f"{PLAIN.split('Outputs')[0]}  Table:\n    Type: AWS::DynamoDB::Table\n"
    done = stacks.run("deploy", str(stacks.write(template)), "--stack", "three", expect=1)
    assert "Table (AWS::DynamoDB::Table)" in done.stderr
    assert "nothing was changed" in done.stderr
    assert platform.client("iam").list_roles()["Roles"] == before


def test_a_first_deployment_that_fails_leaves_nothing(stacks: Stacks) -> None:
    before = stacks.everything()
    broken = PLAIN.replace("Handler: index.handler", "Handler: index.handler\n      Timeout: 901")
    done = stacks.run("deploy", str(stacks.write(broken)), "--stack", "four", expect=1)
    assert "Function (AWS::Lambda::Function) could not be created" in done.stderr
    assert "ValidationException" in done.stderr or "InvalidParameterValue" in done.stderr
    assert "the stack is as it was before (ROLLBACK_COMPLETE)" in done.stderr
    assert "delete   AWS::IAM::Role Role" in done.stderr
    assert stacks.everything() == before
    stacks.run("delete", "--stack", "four")


def test_an_update_that_fails_gives_the_old_code_and_settings_back(
    stacks: Stacks, platform: Platform
) -> None:
    """The code too, though its folder holds other code by then; the version that was published
    is gone, and the alias is back."""
    client = platform.client("lambda")
    outputs, _ = stacks.deploy(stacks.write(SAM), "back")
    before = client.get_function_configuration(FunctionName=outputs["Arn"])
    write_code(stacks, version=2)
    failing = SAM.replace("RetentionInDays: 7", "RetentionInDays: 8").replace(
        "AutoPublishAlias: live", "AutoPublishAlias: live\n      MemorySize: 256"
    )
    done = stacks.run("deploy", str(stacks.write(failing)), "--stack", "back", expect=1)
    assert "Logs (AWS::Logs::LogGroup) could not be updated" in done.stderr
    assert "UPDATE_ROLLBACK_COMPLETE" in done.stderr
    assert platform.invoke(outputs["Alias"]).json == "hello from back 1"
    assert platform.invoke(outputs["Arn"]).json == "hello from back 1"
    after = client.get_function_configuration(FunctionName=outputs["Arn"])
    assert (after["CodeSha256"], after["MemorySize"]) == (before["CodeSha256"], 128)
    versions = client.list_versions_by_function(FunctionName=outputs["Arn"])["Versions"]
    assert [item["Version"] for item in versions] == ["$LATEST", "1"]

    # The same, without the mistake.
    stacks.deploy(stacks.write(failing.replace("InDays: 8", "InDays: 14")), "back")
    assert platform.invoke(outputs["Alias"]).json == "hello from back 2"
    stacks.run("delete", "--stack", "back")


def test_a_deployment_that_is_killed_can_be_repeated_or_deleted(
    stacks: Stacks, platform: Platform
) -> None:
    before = stacks.everything()
    path = stacks.write(SAM)
    for line in ("create   AWS::IAM::Role", "create   AWS::Lambda::Function"):
        process = stacks.start("deploy", str(path), "--stack", "killed")
        assert process.stderr is not None
        assert any(said.startswith(line) for said in process.stderr)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert stacks.everything() != before
    outputs, changes = stacks.deploy(path, "killed")
    assert changes[0].startswith("delete AWS::")
    assert platform.invoke(outputs["Alias"]).json == "hello from killed 1"

    write_code(stacks, version=2)
    process = stacks.start("deploy", str(path), "--stack", "killed")
    assert process.stderr is not None
    assert any(said.startswith("update   AWS::Lambda::Function") for said in process.stderr)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stacks.run("delete", "--stack", "killed")
    assert stacks.everything() == before


def test_a_platform_that_dies_under_a_deployment_is_no_end_of_it(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    """Neither the step nor the way back can be taken; both are, once the platform is there."""
    platform = make_platform()
    template = tmp_path / "template.yaml"
    template.write_text(PLAIN)

    def place() -> Place:
        return Place(
            clients=platform.client, account=ACCOUNT, region=REGION, states=tmp_path / "states"
        )

    def kill(change: Change) -> None:
        if change.logical_id == "Role" and platform.is_running:
            platform.kill()

    with pytest.raises(StackError, match=r"the way back failed at .*ROLLBACK_FAILED"):
        deploy_stack(place(), "died", template, {}, Path.read_bytes, kill)
    platform.start()
    said: list[str] = []
    deployed = deploy_stack(
        place(),
        "died",
        template,
        {},
        Path.read_bytes,
        lambda change: said.append(f"{change.action} {change.logical_id}"),
    )
    assert said[0] == "delete Role"
    assert platform.invoke(deployed.outputs["Name"]).json == "128"
    delete_stack(place(), "died", lambda change: None)
    assert platform.client("iam").list_roles()["Roles"] == []


def test_the_second_of_two_deployments_is_refused(stacks: Stacks, platform: Platform) -> None:
    path = stacks.write(PLAIN)
    stacks.deploy(path, "busy")
    (state,) = (stacks.folder / "state").rglob("busy.json")
    with state.with_suffix(".lock").open("w") as lock:
        lock.write("process 1")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (("deploy", str(path), "--stack", "busy"), ("delete", "--stack", "busy")):
            done = stacks.run(*command, expect=1)
            assert "the stack busy is being deployed or deleted by process 1" in done.stderr
    stacks.run("delete", "--stack", "busy")
    assert list(state.parent.iterdir()) == []


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    stacks: Stacks, platform: Platform
) -> None:
    before = stacks.everything()
    path = stacks.write(PLAIN)
    done = stacks.run("deploy", str(path), "--stack", "dry", "--dry-run")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["create"] * 3
    assert stacks.everything() == before
    assert not (stacks.folder / "state").exists()

    stacks.deploy(path, "dry")
    changed = PLAIN.replace("MemorySize: 128", "MemorySize: 256").replace("Shared:", "Other:")
    done = stacks.run("deploy", str(stacks.write(changed)), "--stack", "dry", "--dry-run")
    assert sorted(" ".join(line.split()) for line in done.stdout.splitlines()) == [
        "create AWS::IAM::ManagedPolicy Other",
        "delete AWS::IAM::ManagedPolicy Shared",
        "update AWS::Lambda::Function Function (MemorySize)",
    ]
    assert stacks.deploy(stacks.write(PLAIN), "dry")[1] == []
    stacks.run("delete", "--stack", "dry")


def test_what_one_stack_exports_another_imports(stacks: Stacks, platform: Platform) -> None:
    exporting = PLAIN.replace(
        "Name: {Value: !Ref Function}",
        "Name: {Value: !Ref Function, Export: {Name: !Sub '${AWS::StackName}-name'}}",
    )
    outputs, _ = stacks.deploy(stacks.write(exporting), "giver")
    importing = """
Resources:
  Logs:
    Type: AWS::Logs::LogGroup
    Properties: {LogGroupName: !Sub ['/of/${name}', {name: !ImportValue giver-name}]}
Outputs:
  Group: {Value: !Ref Logs}
"""
    path = stacks.write(importing)
    taken, _ = stacks.deploy(path, "taker")
    assert taken["Group"] == f"/of/{outputs['Name']}"
    done = stacks.run("delete", "--stack", "giver", expect=1)
    assert "Export giver-name cannot be deleted as it is in use by taker" in done.stderr
    done = stacks.run("deploy", str(stacks.write(PLAIN)), "--stack", "giver", expect=1)
    assert "Export giver-name cannot be deleted as it is in use by taker" in done.stderr
    assert platform.invoke(outputs["Name"]).json == "128"
    stacks.run("delete", "--stack", "taker")
    stacks.run("delete", "--stack", "giver")


def test_what_is_not_there_yet_is_named_and_nothing_is_changed(stacks: Stacks) -> None:
    before = stacks.everything()
    for wrong, said in (
        ("      Handler: index.handler\n      Colour: red", "Function (AWS::Lambda::Function)"),
        ("      Handler: !Ref Nobody", "Function refers to Nobody"),
        ("      Handler: !GetAtt Role.Colour", "Role has no attribute Colour"),
        ("      Handler: !Cidr [a, 1]", "Fn::Cidr is not supported"),
    ):
        template = PLAIN.replace("      Handler: index.handler", wrong)
        done = stacks.run("deploy", str(stacks.write(template)), "--stack", "wrong", expect=1)
        assert said in done.stderr
        assert stacks.everything() == before


def test_the_name_of_a_function_or_of_a_stack_is_needed(stacks: Stacks) -> None:
    stacks.run("delete", expect=2)
    stacks.run("delete", "name", "--stack", "name", expect=2)
    done = stacks.run("delete", "--stack", "../name", expect=1)
    assert "../name is no name of a stack" in done.stderr


def test_what_hangs_on_a_function_is_part_of_its_stack(stacks: Stacks, platform: Platform) -> None:
    client = platform.client("lambda")
    settings = (
        "      FunctionUrlConfig: {AuthType: NONE, Cors: {AllowOrigins: ['*']}}\n"
        "      EventInvokeConfig: {MaximumRetryAttempts: 1}\n"
        "      Events:\n"
    )
    template = SAM.replace("      Events:\n", settings, 1).replace(
        "Outputs:\n", "Outputs:\n  Url: {Value: !GetAtt GreeterUrl.FunctionUrl}\n"
    )
    path = stacks.write(template)
    outputs, _ = stacks.deploy(path, "four")
    alias = {"FunctionName": outputs["Arn"], "Qualifier": "live"}
    url = client.get_function_url_config(**alias)
    assert url["FunctionUrl"] == outputs["Url"]
    assert url["Cors"] == {"AllowOrigins": ["*"]}
    assert client.get_function_event_invoke_config(**alias)["MaximumRetryAttempts"] == 1
    assert '"lambda:FunctionUrlAuthType":"NONE"' in client.get_policy(**alias)["Policy"]
    assert stacks.deploy(path, "four") == (outputs, [])

    stacks.deploy(stacks.write(SAM), "four")
    for read in (
        client.get_function_url_config,
        client.get_function_event_invoke_config,
        client.get_policy,
    ):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            read(**alias)
    stacks.run("delete", "--stack", "four")
