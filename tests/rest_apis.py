"""REST APIs made through the API, for tests against a running platform."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from running_platform import ACCOUNT, REGION, Platform
from web_client import WebAnswer, fetch

# Returns the event, or what the member ``answer`` of a JSON body says.
ECHO = """
import json, time
def handler(event, context):
    if event["path"].endswith("/as-told"):
        told = json.loads(event["body"])
        if "sleep" in told:
            time.sleep(told["sleep"])
            print("slept")
        if "fail" in told:
            raise ValueError(told["fail"])
        return told.get("answer")
    return {"statusCode": 200, "body": json.dumps(event)}
"""


@dataclass
class Api:
    """One API, its client and its address. ``root`` is the id of its root resource."""

    platform: Platform
    client: Any
    id: str
    root: str

    def resource(self, path: str) -> str:
        """The id of the resource at ``path``, made with all that lead there."""
        at = self.root
        for part in filter(None, path.split("/")):
            items = self.client.get_resources(restApiId=self.id, limit=500)["items"]
            found = [i for i in items if i.get("parentId") == at and i["pathPart"] == part]
            at = (
                found[0]["id"]
                if found
                else self.client.create_resource(restApiId=self.id, parentId=at, pathPart=part)[
                    "id"
                ]
            )
        return at

    def method(self, path: str, verb: str, integration: Mapping[str, Any], **method: Any) -> str:
        """A method with an integration at ``path``; the id of the resource."""
        place = {"restApiId": self.id, "resourceId": self.resource(path), "httpMethod": verb}
        self.client.put_method(**place, **{"authorizationType": "NONE", **method})
        self.client.put_integration(**place, **integration)
        return place["resourceId"]

    def deploy(self, stage: str = "prod", **options: Any) -> str:
        """A deployment at a stage; its id."""
        made = self.client.create_deployment(restApiId=self.id, stageName=stage, **options)
        deployment: str = made["id"]
        return deployment

    def fetch(self, path: str, method: str = "GET", **options: Any) -> WebAnswer:
        """A request to the host name of the API; ``path`` begins with the stage."""
        port = urlsplit(self.platform.url).port
        url = f"http://{self.id}.execute-api.{REGION}.localhost:{port}{path}"
        return fetch(url, method, **options)

    def tell(self, answer: Any = None, path: str = "/prod/as-told", **told: Any) -> WebAnswer:
        """The answer when the function returns ``answer``."""
        body = json.dumps({"answer": answer, **told}).encode()
        return self.fetch(path, "POST", body=body, headers={"Content-Type": "application/json"})


def make_api(platform: Platform, name: str = "api", **options: Any) -> Api:
    client = platform.client("apigateway")
    made = client.create_rest_api(name=name, **options)
    return Api(platform, client, made["id"], made["rootResourceId"])


def proxy(function: str, **options: Any) -> dict[str, Any]:
    """The arguments of put_integration for a Lambda proxy integration."""
    return {
        "type": "AWS_PROXY",
        "integrationHttpMethod": "POST",
        "uri": lambda_uri(function),
        **options,
    }


def lambda_uri(function: str) -> str:
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
    return f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations"


def permit(platform: Platform, function: str, **options: Any) -> None:
    """API Gateway may invoke the function."""
    platform.client("lambda").add_permission(
        FunctionName=function,
        StatementId=f"gateway{len(options)}",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        **options,
    )
