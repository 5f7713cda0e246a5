"""``firelet invoke``: runs a function and prints what it answers."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from firelet.cli.endpoint import Endpoint, EndpointOption, find_endpoint, reach
from firelet.cli.failure import CliError
from firelet.cli.terminal import say


def invoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Function, or NAME:ALIAS.")],
    payload: Annotated[
        str, typer.Argument(metavar="[JSON|@FILE|-]", help="The event.", show_default=False)
    ] = "{}",
    tail: Annotated[bool, typer.Option("--tail", help="Print the log of this call.")] = False,
    is_async: Annotated[bool, typer.Option("--async", help="Queue the event and return.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Wait for a debugger: debugpy, or Node.js's inspector.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="Where the debugger connects to.")
    ] = 5678,
    endpoint: EndpointOption = None,
) -> None:
    """Invoke a function. The answer is on stdout; an error of the function is exit code 1."""
    if is_async and (tail or debug):
        option = "--tail" if tail else "--debug"
        raise CliError(f"{option} needs an answer, which --async does not wait for")
    target = find_endpoint(endpoint)
    event = read_payload(payload)
    if debug:
        _debug(target, name, event, port)
        return
    with reach(target):
        answer = target.client("lambda").invoke(
            FunctionName=name,
            InvocationType="Event" if is_async else "RequestResponse",
            LogType="Tail" if tail else "None",
            Payload=event,
        )
        body: bytes = answer["Payload"].read()
    if is_async:
        say(f"accepted {answer['ResponseMetadata'].get('RequestId', '')}".rstrip())
        return
    if tail:
        log = base64.b64decode(answer.get("LogResult", ""))
        sys.stderr.write(log.decode(errors="replace"))
    if answer.get("FunctionError"):
        say(describe_function_error(name, body))
        raise typer.Exit(1)
    _print_payload(body)


def _debug(target: Endpoint, name: str, event: bytes, port: int) -> None:
    """Ctrl-C ends the wait, and the environment with it."""
    import msgspec

    from firelet.frontend.debug import DEBUG_PATH, DebugAnswer, DebugOrder

    say(f"waiting for a debugger at 127.0.0.1:{port}; nothing times out meanwhile")
    order = DebugOrder(function=name, event=msgspec.Raw(event), port=port)
    with reach(target):
        body = target.page(DEBUG_PATH, msgspec.json.encode(order), timeout_s=None)
    answer = msgspec.json.decode(body, type=DebugAnswer)
    sys.stderr.write(base64.b64decode(answer.log).decode(errors="replace"))
    payload = base64.b64decode(answer.payload)
    if answer.function_error:
        say(describe_function_error(name, payload))
        raise typer.Exit(1)
    _print_payload(payload)


def read_payload(text: str) -> bytes:
    """The event: JSON as it is written, ``@FILE`` for a file, ``-`` for stdin."""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).expanduser().read_bytes()
        except OSError as error:
            raise CliError(f"cannot read the event from {text[1:]}: {error.strerror}") from None
    try:
        json.loads(text)
    except ValueError:
        raise CliError(f"{text} is not JSON: quote strings, or use @FILE or -") from None
    return text.encode()


def describe_function_error(name: str, body: bytes) -> str:
    """What went wrong in a function, as its language would have told it."""
    try:
        failure: Any = json.loads(body)
    except ValueError:
        failure = None
    if not isinstance(failure, dict):
        return f"{name} failed: {body.decode(errors='replace')}"
    kind, message = failure.get("errorType"), failure.get("errorMessage")
    lines = [f"{name} failed: {': '.join(str(part) for part in (kind, message) if part)}"]
    trace = failure.get("stackTrace") or failure.get("trace") or ()
    lines += [str(line).rstrip("\n") for line in trace]
    return "\n".join(lines)


def _print_payload(body: bytes) -> None:
    """Exactly the bytes of the function for a program; indented JSON for a person."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    try:
        value = json.loads(body)
    except ValueError:
        print(body.decode(errors="replace"))
        return
    from rich.console import Console

    Console().print_json(data=value)
