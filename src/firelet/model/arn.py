"""Names of Lambda resources: the forms in which callers write them and the ARN that they mean.

Source: FunctionName in the service model (name, name:qualifier, account:function:name,
function:name, full ARN with or without qualifier). Every part before the name may be left out, and
what can be read as an account or a region is one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from firelet.model.errors import InvalidParameterValue

LATEST = "$LATEST"

_REF = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?(?P<name>[a-zA-Z0-9_.-]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9_-]+))?"
)


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """What a caller named. ``account`` and ``region`` are None when the caller left them out."""

    name: str
    qualifier: str | None = None
    account: str | None = None
    region: str | None = None

    def with_qualifier(self, qualifier: str | None) -> FunctionRef:
        """Joins the separate ``Qualifier`` parameter; the two must agree when both are given."""
        if qualifier is None:
            return self
        if self.qualifier is not None and self.qualifier != qualifier:
            raise InvalidParameterValue(
                "The derived qualifier from the function name does not match the specified"
                " qualifier."
            )
        return FunctionRef(self.name, qualifier, self.account, self.region)


def parse_function_ref(text: str) -> FunctionRef:
    """Splits a FunctionName. InvalidParameterValue for what does not satisfy the model's pattern,
    which the hot path and the validator have refused before."""
    if ":" not in text:
        return FunctionRef(text)
    parts = _REF.fullmatch(text)
    if parts is None:
        raise InvalidParameterValue(f"Invalid ARN: {text}")
    return FunctionRef(parts["name"], parts["qualifier"], parts["account"], parts["region"])


def format_function_arn(region: str, account: str, name: str, qualifier: str | None = None) -> str:
    """The function ARN, unqualified when ``qualifier`` is None."""
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    return arn if qualifier is None else f"{arn}:{qualifier}"
