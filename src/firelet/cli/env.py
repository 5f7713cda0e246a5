"""``firelet env``: the variables that point AWS tools to firelet, for a shell to evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from firelet.cli.endpoint import DEFAULT_KEY, EndpointOption, find_endpoint


class Shell(StrEnum):
    """How a variable is set. ``sh`` is bash and zsh too."""

    SH = "sh"
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def env(
    shell: Annotated[Shell, typer.Option(help="Whose syntax to print.")] = Shell.SH,
    endpoint: EndpointOption = None,
) -> None:
    """Print variables for AWS tools: `eval "$(firelet env)"`."""
    target = find_endpoint(endpoint)
    variables = {
        "AWS_ENDPOINT_URL": target.url,
        "AWS_ACCESS_KEY_ID": DEFAULT_KEY,
        "AWS_SECRET_ACCESS_KEY": DEFAULT_KEY,
        "AWS_REGION": target.region,
        "AWS_DEFAULT_REGION": target.region,
    }
    print(format_variables(variables, shell))


def format_variables(variables: Mapping[str, str], shell: Shell) -> str:
    """One line for each variable, quoted where the shell would otherwise read more into it."""
    return "\n".join(_format(name, value, shell) for name, value in variables.items())


def _format(name: str, value: str, shell: Shell) -> str:
    if shell is Shell.POWERSHELL:
        return f"$env:{name} = '{value.replace(chr(39), chr(39) * 2)}'"
    if shell is Shell.FISH:
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{escaped}'"
    import shlex

    return f"export {name}={shlex.quote(value)}"
