"""Where firelet answers, and clients that talk to it.

What it is: the address out of ``--endpoint`` and the environment, botocore clients for it, calls
of firelet's own pages, and the translation of errors into one sentence. Commands never read the
user's AWS profiles: they are for the real cloud. botocore is imported when it is first needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from firelet.cli.failure import CliError

DEFAULT_ENDPOINT = "http://127.0.0.1:4566"
DEFAULT_REGION = "us-east-1"
DEFAULT_KEY = "test"
_VARIABLES = ("FIRELET_ENDPOINT", "AWS_ENDPOINT_URL")
_LONGEST_CALL_S = 910  # a function may run for 900 s
_LONGEST_PAGE_S = 60
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_OK = 200

EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="URL",
        help="Where firelet answers [FIRELET_ENDPOINT, AWS_ENDPOINT_URL].",
        show_default=False,
    ),
]


class Endpoint:
    """One firelet, by its address. ``client`` makes a botocore client of a service; ``page`` calls
    one of firelet's own pages.

    Clients are ``Any``: botocore makes their classes at run time.
    """

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self.url = url
        self.region = (
            environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
        )
        # The key decides the account, so that the caller's own one counts when there is one.
        self._key = environment.get("AWS_ACCESS_KEY_ID") or DEFAULT_KEY
        self._secret = environment.get("AWS_SECRET_ACCESS_KEY") or DEFAULT_KEY
        self._token = environment.get("AWS_SESSION_TOKEN")
        self._session: Any = None
        self._pages: Any = None

    @property
    def is_local(self) -> bool:
        """Whether firelet runs on this machine."""
        return urlsplit(self.url).hostname in _LOOPBACK

    def client(self, service: str) -> Any:
        """A client that tries once: the platform is near, and a retry would hide its state."""
        import botocore.config
        import botocore.session

        if self._session is None:
            # A profile that is set for the real cloud need not exist here.
            without_profile: Any = {
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
            }
            self._session = botocore.session.Session(session_vars=without_profile)
        return self._session.create_client(
            service,
            region_name=self.region,
            endpoint_url=self.url,
            aws_access_key_id=self._key,
            aws_secret_access_key=self._secret,
            aws_session_token=self._token,
            config=botocore.config.Config(
                retries={"total_max_attempts": 1},
                read_timeout=_LONGEST_CALL_S,
                connect_timeout=5,
                user_agent_extra="firelet-cli",
                # A proxy for the outside world is not on the way to a local platform.
                proxies={},
            ),
        )

    def page(
        self, path: str, body: bytes | None = None, timeout_s: int | None = _LONGEST_PAGE_S
    ) -> bytes:
        """What a page answers to ``body``, or without one to GET. The request is signed as those
        of a client are, since the key decides the account. CliError says what was refused."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        from botocore.httpsession import URLLib3Session

        if self._pages is None:
            self._pages = {}
        if timeout_s not in self._pages:
            self._pages[timeout_s] = URLLib3Session(proxies={}, timeout=timeout_s)
        method = "GET" if body is None else "POST"
        request = AWSRequest(method, f"{self.url}{path}", data=body)
        credentials = Credentials(self._key, self._secret, self._token)
        SigV4Auth(credentials, "lambda", self.region).add_auth(request)
        response = self._pages[timeout_s].send(request.prepare())
        content: bytes = response.content
        if response.status_code != _OK:
            raise CliError(_page_failure(self.url, content))
        return content


def find_endpoint(option: str | None, environment: Mapping[str, str] | None = None) -> Endpoint:
    """The flag, the environment, or the default address, in this order."""
    variables = os.environ if environment is None else environment
    named = option or next((variables[name] for name in _VARIABLES if variables.get(name)), None)
    url = (named or DEFAULT_ENDPOINT).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CliError(f"{url} is not an endpoint: write it like {DEFAULT_ENDPOINT}")
    return Endpoint(url, variables)


@contextmanager
def reach(endpoint: Endpoint) -> Iterator[None]:
    """Around calls to the platform: what botocore raises becomes one clear sentence."""
    import botocore.exceptions as failures

    try:
        yield
    except (failures.EndpointConnectionError, failures.ConnectTimeoutError):
        raise CliError(
            f"no firelet answers at {endpoint.url}: start it with `firelet up`"
        ) from None
    except failures.ReadTimeoutError:
        raise CliError(f"{endpoint.url} took the call and did not answer") from None
    except failures.ConnectionError:
        raise CliError(f"the connection to {endpoint.url} broke before the answer") from None
    except failures.ClientError as error:
        raise CliError(error_message(error)) from None
    except failures.WaiterError as error:
        raise CliError(f"{error}") from None
    except failures.ParamValidationError as error:
        raise CliError(" ".join(str(error).split())) from None
    except failures.BotoCoreError as error:
        raise CliError(f"{endpoint.url}: {error}") from None


def error_code(error: Any) -> str:
    """AWS's code of a ClientError."""
    code: str = error.response.get("Error", {}).get("Code", "")
    return code


def error_message(error: Any) -> str:
    """AWS's sentence of a ClientError, with its code."""
    message = error.response.get("Error", {}).get("Message") or "no message"
    return f"{message} ({error_code(error)})"


def _page_failure(url: str, content: bytes) -> str:
    """The sentence of a refused page; what answers there may be something else than firelet."""
    try:
        message = json.loads(content).get("message")
    except (ValueError, AttributeError):
        message = None
    return message or f"{url} has no such page: is it a firelet of this version?"
