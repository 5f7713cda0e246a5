"""``firelet deploy template.yaml`` and ``firelet delete --stack``, against a real platform."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from running_platform import FIRELET, PYTHON, Platform, clean_environment

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


class Stacks:
    """Runs the command line with a state directory of its own."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self._platform = platform
        self._folder = folder

    def write(self, template: str, version: int = 1) -> Path:
        (self._folder / "src").mkdir(exist_ok=True)
        (self._folder / "src" / "app.py").write_text(CODE % version)
        path = self._folder / "template.yaml"
        path.write_text(template)
        return path

    def run(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*FIRELET, *arguments, "--endpoint", self._platform.url],
            env={**clean_environment(), "XDG_STATE_HOME": str(self._folder / "state")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def deploy(self, path: Path, name: str, *options: str) -> tuple[dict[str, str], list[str]]:
        """Outputs, and what was done as ``action Type LogicalId``."""
        done = self.run("deploy", str(path), "--stack", name, *options)
        outputs = dict(line.split("\t") for line in done.stdout.splitlines())
        changes = [
            " ".join(line.split()[:3]) for line in done.stderr.splitlines() if " AWS::" in line
        ]
        return outputs, changes


@pytest.fixture
def stacks(platform: Platform, tmp_path: Path) -> Stacks:
    return Stacks(platform, tmp_path)


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
    stacks.write(SAM, version=2)
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


def test_a_deployment_that_failed_goes_on_where_it_ended(
    stacks: Stacks, platform: Platform
) -> None:
    broken = PLAIN.replace("Handler: index.handler", "Handler: index.handler\n      Timeout: 901")
    done = stacks.run("deploy", str(stacks.write(broken)), "--stack", "four", expect=1)
    assert "create   AWS::IAM::Role Role" in done.stderr
    outputs, changes = stacks.deploy(stacks.write(PLAIN), "four")
    assert changes == ["create AWS::Lambda::Function Function"]
    assert platform.invoke(outputs["Name"]).json == "128"
    stacks.run("delete", "--stack", "four")


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
