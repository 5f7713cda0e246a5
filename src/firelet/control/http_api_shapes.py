"""The types of what a definition of an HTTP API may say: what other calls are checked for by AWS's
service model, definitions are checked for here. Used by ``http_api_import``.

Source: the members of the shapes in botocore's model of apigatewayv2.
"""

from __future__ import annotations

from typing import TypedDict


class JwtShape(TypedDict):
    """``JWTConfiguration``."""

    Issuer: str
    Audience: list[str]


class AuthorizerShape(TypedDict, total=False):
    """``Authorizer``."""

    Name: str
    AuthorizerType: str
    IdentitySource: list[str]
    JwtConfiguration: JwtShape
    AuthorizerCredentialsArn: str
    AuthorizerPayloadFormatVersion: str
    AuthorizerResultTtlInSeconds: int
    AuthorizerUri: str
    EnableSimpleResponses: bool


class IntegrationShape(TypedDict, total=False):
    """``Integration``."""

    IntegrationType: str
    IntegrationMethod: str
    IntegrationSubtype: str
    IntegrationUri: str
    ConnectionType: str
    CredentialsArn: str
    PayloadFormatVersion: str
    RequestParameters: dict[str, str]
    ResponseParameters: dict[str, dict[str, str]]
    TimeoutInMillis: int


class CorsShape(TypedDict, total=False):
    """``Cors``."""

    AllowCredentials: bool
    AllowHeaders: list[str]
    AllowMethods: list[str]
    AllowOrigins: list[str]
    ExposeHeaders: list[str]
    MaxAge: int
