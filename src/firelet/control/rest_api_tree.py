"""The parts of a REST API: resources, methods, integrations and what they answer.

Pure: functions from one API to the next, which ``RestApis.change`` applies. Each raises NotFound,
BadRequest or Conflict and then changes nothing.
Source: API reference of API Gateway; sentences as recorded by users.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from firelet.control.api_errors import BadRequest, Conflict, NotFound
from firelet.control.rest_api_records import Definition, RestApi, RestResource, Settings
from firelet.control.rest_apis import new_id

_PART = re.compile(r"[a-zA-Z0-9._:$~-]+|\{[a-zA-Z0-9._:$-]+\+?\}")


def find_resource(api: RestApi, resource_id: str) -> RestResource:
    """NotFound unless the API has it."""
    found = api.definition.resources.get(resource_id)
    if found is None:
        raise NotFound("Invalid Resource identifier specified")
    return found


def find_method(api: RestApi, resource_id: str, verb: str) -> Settings:
    """NotFound unless the resource has it."""
    found = find_resource(api, resource_id).methods.get(verb)
    if found is None:
        raise NotFound("Invalid Method identifier specified")
    return found


def find_integration(api: RestApi, resource_id: str, verb: str) -> Settings:
    """NotFound unless the method has one."""
    found: Settings | None = find_method(api, resource_id, verb).get("methodIntegration")
    if found is None:
        raise NotFound("Invalid Integration identifier specified")
    return found


def find_response(owner: Settings, member: str, status: str) -> Settings:
    """One of the ``methodResponses`` or ``integrationResponses``. NotFound."""
    found: Settings | None = owner.get(member, {}).get(status)
    if found is None:
        raise NotFound("Invalid Response status code specified")
    return found


def with_definition(api: RestApi, **parts: Any) -> RestApi:
    """The API with parts of its definition replaced."""
    return replace(api, definition=replace(api.definition, **parts))


def add_resource(
    definition: Definition, parent: RestResource, part: str
) -> tuple[Definition, RestResource]:
    """A child of ``parent``, and the definition that has it."""
    _check_part(definition, parent, part)
    child = RestResource(
        id=new_id(), parent_id=parent.id, path_part=part, path=_join(parent.path, part)
    )
    return replace(definition, resources={**definition.resources, child.id: child}), child


def move_resource(api: RestApi, resource_id: str, parent_id: str, part: str) -> RestApi:
    """Gives a resource another parent or part; the paths below it follow."""
    moved, parent = find_resource(api, resource_id), find_resource(api, parent_id)
    if moved.parent_id is None:
        raise BadRequest("Cannot update the root resource")
    at: RestResource | None = parent
    while at is not None:
        if at.id == resource_id:
            raise BadRequest("Invalid parent resource: it is below the resource itself")
        at = None if at.parent_id is None else find_resource(api, at.parent_id)
    rest = {key: item for key, item in api.definition.resources.items() if key != resource_id}
    _check_part(replace(api.definition, resources=rest), parent, part)
    top = replace(moved, parent_id=parent_id, path_part=part, path=_join(parent.path, part))
    resources = {**api.definition.resources, resource_id: top}
    _follow(resources, top)
    return with_definition(api, resources=resources)


def delete_resource(api: RestApi, resource_id: str) -> RestApi:
    """With everything below it."""
    if find_resource(api, resource_id).parent_id is None:
        raise BadRequest("Cannot delete root resource")
    gone = {resource_id}
    # Parents come before their children: a resource is added below one that exists, or moved.
    while True:
        more = {k for k, item in api.definition.resources.items() if item.parent_id in gone}
        if more <= gone:
            break
        gone |= more
    left = {key: item for key, item in api.definition.resources.items() if key not in gone}
    return with_definition(api, resources=left)


def put_method(api: RestApi, resource_id: str, verb: str, method: Settings | None) -> RestApi:
    """Sets a method of a resource, or takes it away (None)."""
    resource = find_resource(api, resource_id)
    methods = dict(resource.methods)
    if method is None:
        find_method(api, resource_id, verb)
        del methods[verb]
    else:
        methods[verb] = method
    changed = replace(resource, methods=methods)
    return with_definition(api, resources={**api.definition.resources, resource_id: changed})


def put_integration(
    api: RestApi, resource_id: str, verb: str, integration: Settings | None
) -> RestApi:
    """Sets the integration of a method, or takes it away (None)."""
    method = dict(find_method(api, resource_id, verb))
    if integration is None:
        find_integration(api, resource_id, verb)
        del method["methodIntegration"]
    else:
        method["methodIntegration"] = integration
    return put_method(api, resource_id, verb, method)


def with_response(
    owner: Settings, member: str, status: str, response: Settings | None
) -> dict[str, Any]:
    """A method or integration with one of its responses set, or taken away (None)."""
    responses = dict(owner.get(member, {}))
    if response is None:
        find_response(owner, member, status)
        del responses[status]
    else:
        responses[status] = response
    return {**owner, member: responses}


def named(parts: Mapping[str, Settings], name: str, sentence: str) -> Settings:
    """A part of a definition by its id or name. NotFound says ``sentence``."""
    found = parts.get(name)
    if found is None:
        raise NotFound(sentence)
    return found


def _check_part(definition: Definition, parent: RestResource, part: str) -> None:
    if _PART.fullmatch(part) is None:
        raise BadRequest(
            "Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and"
            " curly braces at the beginning and the end."
        )
    if parent.path.endswith("+}"):
        raise BadRequest("Cannot create a child of a resource with a greedy path variable.")
    for sibling in definition.resources.values():
        if sibling.parent_id != parent.id or sibling.path_part is None:
            continue
        if sibling.path_part == part:
            raise Conflict(f"Another resource with the same parent already has this name: {part}")
        if part.startswith("{") and sibling.path_part.startswith("{"):
            raise BadRequest(
                f"A sibling ({sibling.path_part}) of this resource already has a variable path part"
                " -- only one is allowed"
            )


def _follow(resources: dict[str, RestResource], parent: RestResource) -> None:
    for key, item in list(resources.items()):
        if item.parent_id == parent.id:
            resources[key] = replace(item, path=_join(parent.path, item.path_part or ""))
            _follow(resources, resources[key])


def _join(path: str, part: str) -> str:
    return f"{path.rstrip('/')}/{part}"
