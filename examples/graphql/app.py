"""A GraphQL endpoint as a function, with Strawberry.

pip install --target . -r requirements.txt
firelet deploy . --name graphql --handler app.handler
"""

from __future__ import annotations

import base64
import json
from typing import Any

import strawberry

BOOKS = {"1": "The Left Hand of Darkness", "2": "Kindred"}


@strawberry.type
class Book:
    id: strawberry.ID
    title: str


@strawberry.type
class Query:
    @strawberry.field
    def book(self, id: strawberry.ID) -> Book | None:
        title = BOOKS.get(id)
        return None if title is None else Book(id=id, title=title)

    @strawberry.field
    def books(self) -> list[Book]:
        return [Book(id=strawberry.ID(number), title=title) for number, title in BOOKS.items()]


schema = strawberry.Schema(query=Query)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """An HTTP request with a JSON body: query, variables, operationName."""
    body = event.get("body") or ""
    text = base64.b64decode(body) if event.get("isBase64Encoded") else body
    try:
        request = json.loads(text)
        query = request["query"]
    except (ValueError, KeyError, TypeError):
        return answer(400, {"errors": [{"message": "the body is no GraphQL request"}]})
    result = schema.execute_sync(
        query,
        variable_values=request.get("variables"),
        operation_name=request.get("operationName"),
    )
    content: dict[str, Any] = {"data": result.data}
    if result.errors:
        content["errors"] = [error.formatted for error in result.errors]
    return answer(200, content)


def answer(status: int, content: Any) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(content),
    }
