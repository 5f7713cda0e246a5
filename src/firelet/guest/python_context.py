"""The context object, second argument of a Python handler. Made per invocation by python_runtime.

Source: AWS guide, "Using the Lambda context object to retrieve Python function information",
and the attributes and ``repr`` of the official client.
"""

from __future__ import annotations

import logging
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping

    from firelet.guest.runtime_client import Invocation

# The W3C trace fields that may travel in the client context; they are not shown as part of it.
_W3C_FIELDS = ("traceparent", "tracestate", "baggage")


class FunctionEnvironment:
    """What the environment says about the function; the same for all its invocations."""

    __slots__ = ("log_group", "log_stream", "memory_mib", "name", "version")

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.name = environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.version = environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_mib = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group = environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream = environ.get("AWS_LAMBDA_LOG_STREAM_NAME")


class _Record:
    """Named fields of a JSON object, None where absent; shown as Name([field=value,...])."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, values: Mapping[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self) -> str:
        fields = ",".join(f"{name}={getattr(self, name)}" for name in self.__slots__)
        return f"{type(self).__name__}([{fields}])"


class CognitoIdentity(_Record):
    """Who called through a mobile SDK; both fields are None for any other caller."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")


class Client(_Record):
    """The mobile application that called."""

    __slots__ = (  # noqa: RUF023  (the order in which repr shows them)
        "installation_id",
        "app_title",
        "app_version_name",
        "app_version_code",
        "app_package_name",
    )


class ClientContext(_Record):
    """What the caller sent in X-Amz-Client-Context."""

    __slots__ = ("custom", "env", "client")  # noqa: RUF023  (as above)


class LambdaContext:
    """The context object. Functions may add attributes, so it has no slots."""

    def __init__(
        self,
        invocation: Invocation,
        function: FunctionEnvironment,
        client_context: dict[str, Any] | None,
        cognito_identity: dict[str, Any] | None,
    ) -> None:
        self.aws_request_id = invocation.request_id
        self.log_group_name = function.log_group
        self.log_stream_name = function.log_stream
        self.function_name = function.name
        self.memory_limit_in_mb = function.memory_mib
        self.function_version = function.version
        self.invoked_function_arn = invocation.function_arn
        self.tenant_id = invocation.tenant_id
        self._w3c_fields: dict[str, str] = {}
        self.client_context: ClientContext | None = None
        if client_context is not None:
            self._set_client_context(client_context)
        identity = cognito_identity or {}
        self.identity = CognitoIdentity(
            {
                "cognito_identity_id": identity.get("cognitoIdentityId"),
                "cognito_identity_pool_id": identity.get("cognitoIdentityPoolId"),
            }
        )
        self._epoch_deadline_time_in_ms = invocation.deadline_ms

    def _set_client_context(self, document: dict[str, Any]) -> None:
        fields = document.pop("w3c", None)
        if isinstance(fields, dict):
            for name in _W3C_FIELDS:
                if isinstance(fields.get(name), str):
                    self._w3c_fields[name] = fields[name]
        self.client_context = context = ClientContext(document)
        client = document.get("client")
        if client is not None:
            context.client = Client(client)  # type: ignore[attr-defined]

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation times out; never negative."""
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def w3c(self) -> dict[str, str]:
        """The W3C trace context of this invocation: traceparent, tracestate, baggage."""
        return dict(self._w3c_fields)

    def log(self, msg: object) -> None:
        """Writes the text as one log event, without level, time or request id."""
        for handler in logging.getLogger().handlers:
            sink = getattr(handler, "log_sink", None)
            if sink is not None:
                sink.log(str(msg))
                return
        sys.stdout.write(str(msg))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}([aws_request_id={self.aws_request_id},log_group_name={self.log_group_name},log_stream_name={self.log_stream_name},function_name={self.function_name},"
            f"memory_limit_in_mb={self.memory_limit_in_mb},function_version={self.function_version},invoked_function_arn={self.invoked_function_arn},"
            f"client_context={self.client_context},identity={self.identity},tenant_id={self.tenant_id}])"
        )
