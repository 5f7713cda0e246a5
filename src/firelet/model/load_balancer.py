"""Attributes of the listeners of load balancers, and the response headers that they set.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/header-modification.html
"""

from __future__ import annotations

from collections.abc import Mapping

SERVER_ENABLED = "routing.http.response.server.enabled"

# Header of a response by the attribute that holds its value.
RESPONSE_HEADERS: Mapping[str, str] = {
    f"routing.http.response.{name.lower().replace('-', '_')}.header_value": name
    for name in (
        "Access-Control-Allow-Credentials",
        "Access-Control-Allow-Headers",
        "Access-Control-Allow-Methods",
        "Access-Control-Allow-Origin",
        "Access-Control-Expose-Headers",
        "Access-Control-Max-Age",
        "Content-Security-Policy",
        "Strict-Transport-Security",
        "X-Content-Type-Options",
        "X-Frame-Options",
    )
}
LISTENER_ATTRIBUTES: Mapping[str, str] = {
    SERVER_ENABLED: "true",
    **dict.fromkeys(RESPONSE_HEADERS, ""),
}
