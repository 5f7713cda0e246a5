"""Names of Lambda resources: the forms in which callers write them and the ARN that they mean.

Source: FunctionName in the service model (name, name:qualifier, account:function:name,
function:name, full ARN with or without qualifier).
"""

from __future__ import annotations

from dataclasses import dataclass

from firelet.model.errors import InvalidParameterValue

LATEST = "$LATEST"


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
    """Splits a FunctionName that already satisfies the model's pattern."""
    parts = text.split(":")
    if parts[0] == "arn":
        # arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]
        if len(parts) not in (7, 8):
            raise InvalidParameterValue(f"Invalid ARN: {text}")
        return FunctionRef(
            name=parts[6],
            qualifier=parts[7] if len(parts) == 8 else None,
            account=parts[4],
            region=parts[3],
        )
    if "function" in parts[:-1]:
        # [REGION:][ACCOUNT:]function:NAME[:QUALIFIER]
        at = parts.index("function")
        account = next((p for p in parts[:at] if p.isdigit()), None)
        region = next((p for p in parts[:at] if not p.isdigit()), None)
        rest = parts[at + 1 :]
        return FunctionRef(rest[0], rest[1] if len(rest) > 1 else None, account, region)
    return FunctionRef(parts[0], parts[1] if len(parts) > 1 else None)


def format_function_arn(region: str, account: str, name: str, qualifier: str | None = None) -> str:
    """The function ARN, unqualified when ``qualifier`` is None."""
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    return arn if qualifier is None else f"{arn}:{qualifier}"
