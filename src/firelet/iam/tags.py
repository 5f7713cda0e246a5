"""Tags of IAM entities: rules that hold for roles and policies alike.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from firelet.iam.errors import InvalidInput, LimitExceeded

TAGS_PER_ENTITY = 50  # quota "Tags attached to a role" and "to a customer managed policy"


def add_tags(tags: Mapping[str, str], added: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """``tags`` with the ``{"Key": …, "Value": …}`` pairs of a request added or replaced."""
    result = dict(tags)
    seen: set[str] = set()
    for tag in added:
        key = tag["Key"]
        if key.lower() in seen:
            raise InvalidInput(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive."
            )
        if key.lower().startswith("aws:"):
            raise InvalidInput("System tags cannot be added or removed by requester")
        seen.add(key.lower())
        # A key in another case names the same tag, and the newer spelling stays.
        result = {name: value for name, value in result.items() if name.lower() != key.lower()}
        result[key] = tag["Value"]
    if len(result) > TAGS_PER_ENTITY:
        raise LimitExceeded(f"The number of tags has reached the maximum limit: {TAGS_PER_ENTITY}")
    return result


def remove_tags(tags: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    """``tags`` without ``keys``; a key that is not there is no error."""
    removed = {key.lower() for key in keys}
    return {name: value for name, value in tags.items() if name.lower() not in removed}
