"""Names, ARNs and qualifiers of every form, in every operation that takes any.

``test_names`` looks closely at a few operations; here hypothesis sends the same texts to all of
them: each answer is about the right function, or one of AWS's own refusals.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conformance.samples import MODEL, make_params
from firelet.app.parity import Standing, list_coverage
from running_platform import ACCOUNT, PYTHON, REGION, Deployer, Platform, pack

pytest_plugins = ("platform_fixtures",)

SIGNER = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/a/0123456789"
CODE = "def handler(event, context): return event"
SERVED = [item.operation for item in list_coverage() if item.standing is not Standing.MISSING]
# Members that name something, of the top level of requests.
REFERENCES = (
    "Arn",
    "CodeSigningConfigArn",
    "EventSourceArn",
    "FunctionName",
    "FunctionVersion",
    "LayerName",
    "Name",
    "Qualifier",
    "Resource",
    "ResourceArn",
    "StatementId",
    "UUID",
    "VersionNumber",
)
CASES = [
    (operation, member)
    for operation in SERVED
    for member in REFERENCES
    if member in MODEL.operation_model(operation).input_shape.members
]
# Refusals that AWS sends and that no operation declares.
UNDECLARED = {"ValidationException", "AccessDeniedException"}
VIA_HTTP = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

PARTS = st.sampled_from(
    [
        "arn:aws:lambda:",
        "arn:aws-us-gov:lambda:",
        "arn:aws:sqs:",
        f"{REGION}:",
        "us-gov-west-1:",
        f"{ACCOUNT}:",
        "111111111111:",
        "function:",
        "layer:",
        "code-signing-config:csc-00000000000000000",
        "event-source-mapping:00000000-0000-4000-8000-000000000000",
        "nobody",
        "none-1",
        "a" * 64,
        ":",
        ":$LATEST",
        ":$LATEST.PUBLISHED",
        ":1",
        ":live",
        "/",
        "%2F",
        "%",
        "..",
        "?x=y",
        "#",
        " ",
        "+",
        "é",
        "\N{SNOWMAN}",
        "\U0001f525",
    ]
)
TEXTS = st.one_of(
    st.lists(PARTS, min_size=1, max_size=7).map("".join),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80),
).filter(lambda text: text not in (".", ".."))
# What may stand between the slashes of a request line.
RAW_LABELS = st.lists(
    st.sampled_from(
        ["%00", "%0a", "%2F", "%2e%2e", "%ff", "%c3%28", "%zz", "%", "%3A", "a", "1", ":", "$", "~"]
    ),
    min_size=1,
    max_size=8,
).map("".join)


@pytest.fixture(scope="module")
def function(platform: Platform) -> Iterator[str]:
    """It has one of everything that reading it can show."""
    deployer = Deployer(platform)
    name = deployer(CODE, Publish=True)
    client, named = platform.client("lambda"), {"FunctionName": name}
    client.create_alias(**named, Name="live", FunctionVersion="1")
    client.put_function_concurrency(**named, ReservedConcurrentExecutions=1)
    client.put_function_event_invoke_config(**named, MaximumRetryAttempts=0)
    client.create_function_url_config(**named, AuthType="NONE")
    client.add_permission(
        **named, StatementId="s", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com"
    )
    signing = client.create_code_signing_config(
        AllowedPublishers={"SigningProfileVersionArns": [SIGNER]}
    )["CodeSigningConfig"]["CodeSigningConfigArn"]
    client.put_function_code_signing_config(**named, CodeSigningConfigArn=signing)
    yield name
    deployer.close()
    client.delete_code_signing_config(CodeSigningConfigArn=signing)


def outcome(client: Any, operation: str, params: dict[str, Any]) -> tuple[int, str | None]:
    """Status, and the code of a refusal or None."""
    try:
        answer = getattr(client, xform_name(operation))(**params)
    except ClientError as error:
        answer = error.response
    code = answer.get("Error", {}).get("Code")
    return answer["ResponseMetadata"]["HTTPStatusCode"], code


@pytest.mark.parametrize(("operation", "member"), CASES, ids="-".join)
def test_any_text_is_understood_or_refused_as_on_aws(
    platform: Platform, operation: str, member: str
) -> None:
    model = MODEL.operation_model(operation)
    client = platform.client("lambda", is_strict=False)
    is_number = model.input_shape.members[member].type_name in ("integer", "long")
    package = pack({"app.py": CODE})
    known = {
        "FunctionName": "nobody",
        "Code": {"ZipFile": package},
        "ZipFile": package,
        "Content": {"ZipFile": package},
        "Runtime": PYTHON,
        "Role": platform.make_role(),
        "Handler": "app.handler",
    }
    values = st.integers(-(2**31), 2**31 - 1) if is_number else TEXTS

    @VIA_HTTP
    @given(value=values)
    def send(value: Any) -> None:
        params = make_params(model, known, is_full=False) | {member: value}
        status, code = outcome(client, operation, params)
        declared = {shape.name for shape in model.error_shapes}
        if code is None:
            assert 200 <= status < 300
            if operation == "CreateFunction":
                client.delete_function(FunctionName=value)
        else:
            assert 400 <= status < 500
            assert code in declared | UNDECLARED

    send()


READS = [
    operation
    for operation in SERVED
    if operation.startswith(("Get", "List"))
    and "FunctionName" in MODEL.operation_model(operation).input_shape.required_members
    and operation not in ("GetProvisionedConcurrencyConfig", "GetAlias")
]


def forms(name: str) -> list[str]:
    """Every way to write the name of one function."""
    return [
        name,
        f"function:{name}",
        f"{ACCOUNT}:function:{name}",
        f"{ACCOUNT}:{name}",
        f"{REGION}:{ACCOUNT}:function:{name}",
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
    ]


@pytest.mark.parametrize("operation", READS)
def test_every_form_of_a_name_reads_the_same_function(
    platform: Platform, function: str, operation: str
) -> None:
    client = platform.client("lambda")
    answers = []
    for name in forms(function):
        answer = getattr(client, xform_name(operation))(FunctionName=name)
        del answer["ResponseMetadata"]
        answer.get("Code", {}).pop("Location", None)  # signed anew each time
        answers.append(answer)
    assert function in json.dumps(answers[0], default=str) or len(answers[0]) == 1
    assert answers == [answers[0]] * len(answers)


QUALIFIED = [
    operation
    for operation in READS
    if "Qualifier" in MODEL.operation_model(operation).input_shape.members
]


@pytest.mark.parametrize("qualifier", ["1", "live", "$LATEST"])
@pytest.mark.parametrize("operation", QUALIFIED)
def test_a_qualifier_is_the_same_in_a_name_and_beside_it(
    platform: Platform, function: str, operation: str, qualifier: str
) -> None:
    client = platform.client("lambda", is_strict=False)
    answers = [
        outcome_of(client, operation, FunctionName=function, Qualifier=qualifier),
        *(
            outcome_of(client, operation, FunctionName=f"{name}:{qualifier}")
            for name in forms(function)
        ),
        outcome_of(client, operation, FunctionName=f"{function}:{qualifier}", Qualifier=qualifier),
    ]
    # Function URLs allow aliases as qualifiers only, which the model says of one member alone.
    if operation == "GetFunctionUrlConfig" and qualifier != "live":
        assert answers[0][0] == 400
        return
    assert answers == [answers[0]] * len(answers)


def outcome_of(client: Any, operation: str, **params: Any) -> tuple[int, Any]:
    """Status, and what was answered but for the request's own."""
    try:
        answer = getattr(client, xform_name(operation))(**params)
    except ClientError as error:
        answer = error.response
        return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]
    status = answer.pop("ResponseMetadata")["HTTPStatusCode"]
    answer.get("Code", {}).pop("Location", None)
    return status, answer


PATHS = (
    "/2015-03-31/functions/{}",
    "/2015-03-31/functions/{}/aliases/{}",
    "/2015-03-31/functions/{}/policy",
    "/2015-03-31/functions/x?Qualifier={}",
    "/2015-03-31/functions?Marker={}&MaxItems={}",
    "/2018-10-31/layers/{}/versions/{}",
    "/2018-10-31/layers?find=LayerVersion&Arn={}",
    "/2017-03-31/tags/{}",
    "/2020-04-22/code-signing-configs/{}",
    "/2015-03-31/event-source-mappings/{}",
    "/2026-07-09/resource-policy/{}",
)


@VIA_HTTP
@given(path=st.sampled_from(PATHS), first=RAW_LABELS, second=RAW_LABELS)
@example("/2015-03-31/functions/{}", "%ff", "a")
@example("/2017-03-31/tags/{}", "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Ax", "")
def test_any_encoding_of_a_path_gets_an_answer(
    platform: Platform, path: str, first: str, second: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=30)
    target = path.replace("{}", first, 1).replace("{}", second, 1)
    connection.putrequest("GET", target, skip_accept_encoding=True)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert 200 <= response.status < 500
    if response.status >= 400:
        assert json.loads(body)["message"]
        assert response.getheader("x-amzn-errortype")
