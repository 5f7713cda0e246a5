"""What API Gateway answers by itself: the types of gateway responses and their defaults.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
supported-gateway-response-types.html
"""

from __future__ import annotations

from typing import Any

# The status of each; the two defaults have none of their own.
STATUSES: dict[str, str | None] = {
    "ACCESS_DENIED": "403",
    "API_CONFIGURATION_ERROR": "500",
    "AUTHORIZER_CONFIGURATION_ERROR": "500",
    "AUTHORIZER_FAILURE": "500",
    "BAD_REQUEST_BODY": "400",
    "BAD_REQUEST_PARAMETERS": "400",
    "DEFAULT_4XX": None,
    "DEFAULT_5XX": None,
    "EXPIRED_TOKEN": "403",
    "INTEGRATION_FAILURE": "504",
    "INTEGRATION_TIMEOUT": "504",
    "INVALID_API_KEY": "403",
    "INVALID_SIGNATURE": "403",
    "MISSING_AUTHENTICATION_TOKEN": "403",
    "QUOTA_EXCEEDED": "429",
    "REQUEST_TOO_LARGE": "413",
    "RESOURCE_NOT_FOUND": "404",
    "THROTTLED": "429",
    "UNAUTHORIZED": "401",
    "UNSUPPORTED_MEDIA_TYPE": "415",
    "WAF_FILTERED": "403",
}
TEMPLATE = '{"message":$context.error.messageString}'


def default_response(kind: str) -> dict[str, Any]:
    """The gateway response of an API that has set none of that type."""
    return {
        "responseType": kind,
        "statusCode": STATUSES[kind],
        "responseParameters": {},
        "responseTemplates": {"application/json": TEMPLATE},
        "defaultResponse": True,
    }
