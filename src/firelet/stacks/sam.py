"""The SAM transform, and code that a template names by its path.

SAM takes code from S3 only. A local path is packed and stands in the template as an object of a
bucket that does not exist, by the digest of what it holds; ``stacks.lambda_types`` puts the bytes
back. So a change of the code is a change of the template, and nothing is uploaded twice.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firelet.stacks.errors import StackError, lacks_extra

LOCAL_BUCKET = "firelet-local-code"
# Properties that may hold a path, by type of resource.
_CODE = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Lambda::Function": "Code",
    "AWS::Lambda::LayerVersion": "Content",
}
Packages = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class _Session:
    """What SAM asks of a boto3 session. A real one would read the user's profiles, which are for
    the real cloud."""

    region_name: str


def take_in_code(
    document: Mapping[str, Any], folder: Path, pack: Callable[[Path], bytes]
) -> tuple[dict[str, Any], Packages]:
    """The template with local paths replaced, and the zips by their keys. ``folder`` is where the
    template lies; ``pack`` makes a zip of a path."""
    taken = copy.deepcopy(dict(document))
    packages: Packages = {}
    shared = (taken.get("Globals") or {}).get("Function") or {}
    places = [("Globals", shared, "CodeUri")]
    for name, resource in taken["Resources"].items():
        if isinstance(resource, dict) and resource.get("Type") in _CODE:
            properties = resource.setdefault("Properties", {})
            places.append((name, properties, _CODE[resource["Type"]]))
    for name, properties, member in places:
        path = properties.get(member)
        if isinstance(path, str) and not path.startswith(("s3://", "https://")):
            properties[member] = _take_in(name, folder / path, member, pack, packages)
    return taken, packages


def _take_in(
    name: str, path: Path, member: str, pack: Callable[[Path], bytes], packages: Packages
) -> dict[str, str]:
    if not path.exists():
        raise StackError(f"the code of {name} is not there: {path}")
    zipped = pack(path)
    key = hashlib.sha256(zipped).hexdigest()
    packages[key] = zipped
    if member.endswith("Uri"):
        return {"Bucket": LOCAL_BUCKET, "Key": key}
    return {"S3Bucket": LOCAL_BUCKET, "S3Key": key}


def transform(
    document: Mapping[str, Any],
    parameters: Mapping[str, Any],
    region: str,
    load_policies: Callable[[], Mapping[str, str]],
) -> dict[str, Any]:
    """The template in CloudFormation's own terms. ``load_policies`` gives the ARNs of managed
    policies by name. StackError says what SAM refuses."""
    try:
        from samtranslator.model.exceptions import InvalidDocumentException
        from samtranslator.parser.parser import Parser
        from samtranslator.translator.translator import Translator
    except ImportError:
        raise lacks_extra() from None
    translator = Translator(None, Parser(), boto_session=_Session(region))
    try:
        translated: dict[str, Any] = translator.translate(
            copy.deepcopy(dict(document)),
            parameter_values=dict(parameters),
            get_managed_policy_map=load_policies,
        )
    except InvalidDocumentException as error:
        causes = [str(cause.message) for cause in error.causes] or [str(error)]
        raise StackError("; ".join(causes)) from None
    translated.pop("Transform", None)
    # The translator has texts and tables of its own kinds, which are not for the state.
    plain: dict[str, Any] = _plain(translated)
    return plain


def _plain(value: Any) -> Any:
    """The same value of Python's own types; dates and whatever else YAML knows stay."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str.__str__(value) if isinstance(value, str) else value
