from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from rich.markup import render
from typer.core import TyperGroup, TyperOption
from typer.testing import CliRunner

from firelet.cli import main
from firelet.cli.deployment import name_of, parse_pairs
from firelet.cli.endpoint import find_endpoint
from firelet.cli.env import Shell, format_variables
from firelet.cli.failure import CliError
from firelet.cli.invoke import describe_function_error, read_payload
from firelet.cli.logs import LogReader, parse_age
from firelet.cli.terminal import format_duration

COMMANDS = (
    "up",
    "demo",
    "deploy",
    "invoke",
    "list",
    "logs",
    "top",
    "warm",
    "delete",
    "env",
    "runtimes",
    "parity",
    "doctor",
    "image",
)
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Runs the command as the shell does and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["firelet", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.run()
    return ended.value.code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(runner: CliRunner, command: str) -> None:
    result = runner.invoke(main.app, [command, "--help"])
    assert result.exit_code == 0
    assert command in result.output


def test_no_help_loses_what_is_in_brackets() -> None:
    """Brackets around a word are a mark of Rich's, which it leaves out."""
    group = typer.main.get_command(main.app)
    assert isinstance(group, TyperGroup)
    texts = [
        parameter.help
        for command in group.commands.values()
        for parameter in command.params
        if isinstance(parameter, TyperOption) and parameter.help
    ]
    assert [text for text in texts if "[" in text]
    for text in texts:
        assert str(render(text)) == text.replace("\\[", "[")


@pytest.mark.parametrize(
    "arguments",
    [
        ["deploy"],
        ["invoke"],
        ["logs"],
        ["delete"],
        ["nothing"],
        ["up", "--port", "65536"],
        ["deploy", ".", "--memory", "much"],
        ["env", "--shell", "csh"],
    ],
)
def test_wrong_usage_is_exit_code_2(runner: CliRunner, arguments: list[str]) -> None:
    assert runner.invoke(main.app, arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments", [["list"], ["invoke", "greet"], ["logs", "greet"], ["delete", "greet"]]
)
def test_without_a_platform_one_sentence_says_how_to_start_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments, "--endpoint", NOBODY) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"firelet: no firelet answers at {NOBODY}: start it with `firelet up`\n"


def test_a_fault_of_firelet_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise LookupError("lost")

    monkeypatch.delenv("FIRELET_DEBUG", raising=False)
    monkeypatch.setattr(main, "app", broken)
    assert run(monkeypatch) == 1
    assert capsys.readouterr().err.startswith("firelet: LookupError: lost (this is a fault of")


@pytest.mark.parametrize(
    ("option", "environment", "url"),
    [
        ("http://a:1", {"FIRELET_ENDPOINT": "http://b:1"}, "http://a:1"),
        (None, {"FIRELET_ENDPOINT": "http://b:1", "AWS_ENDPOINT_URL": "http://c:1"}, "http://b:1"),
        (None, {"AWS_ENDPOINT_URL": "http://c:1/"}, "http://c:1"),
        (None, {}, "http://127.0.0.1:4566"),
    ],
)
def test_the_endpoint_is_the_flag_then_the_environment_then_the_default(
    option: str | None, environment: dict[str, str], url: str
) -> None:
    assert find_endpoint(option, environment).url == url


@pytest.mark.parametrize("url", ["127.0.0.1:4566", "ftp://a", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(CliError, match="is not an endpoint"):
        find_endpoint(url, {})


def test_a_profile_of_the_real_cloud_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "does-not-exist")
    client = find_endpoint(NOBODY, {}).client("sts")
    assert client.meta.endpoint_url == NOBODY


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        (Shell.SH, "export A='it'\"'\"'s'"),
        (Shell.FISH, "set -gx A 'it\\'s'"),
        (Shell.POWERSHELL, "$env:A = 'it''s'"),
    ],
)
def test_variables_are_quoted_for_each_shell(shell: Shell, line: str) -> None:
    assert format_variables({"A": "it's"}, shell) == line


def test_env_points_aws_tools_to_the_endpoint(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    lines = runner.invoke(main.app, ["env", "--endpoint", NOBODY]).output.splitlines()
    assert lines == [
        f"export AWS_ENDPOINT_URL={NOBODY}",
        "export AWS_ACCESS_KEY_ID=test",
        "export AWS_SECRET_ACCESS_KEY=test",
        "export AWS_REGION=eu-west-1",
        "export AWS_DEFAULT_REGION=eu-west-1",
    ]


def test_variables_of_a_function_are_pairs() -> None:
    assert parse_pairs(["A=1", "B=x=y", "C="], "--env") == {"A": "1", "B": "x=y", "C": ""}
    for wrong in ("A", "=1"):
        with pytest.raises(CliError, match="NAME=VALUE"):
            parse_pairs([wrong], "--env")


def test_a_function_is_named_after_its_source(tmp_path: Path) -> None:
    (tmp_path / "my shop").mkdir()
    (tmp_path / "my shop" / "orders.v2.py").touch()
    (tmp_path / "my shop" / "bootstrap").touch()
    assert name_of(tmp_path / "my shop") == "my-shop"
    assert name_of(tmp_path / "my shop" / "orders.v2.py") == "orders-v2"
    assert name_of(tmp_path / "my shop" / "bootstrap") == "my-shop"
    with pytest.raises(CliError, match="--name"):
        name_of(Path("/"))


def test_an_event_is_json_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_bytes(b'{"a": 1}')
    assert read_payload('{"a":1}') == b'{"a":1}'
    assert read_payload(f"@{tmp_path}/event.json") == b'{"a": 1}'
    with pytest.raises(CliError, match="is not JSON"):
        read_payload("hello")
    with pytest.raises(CliError, match="No such file"):
        read_payload("@/nowhere")


def test_a_function_error_is_told_as_its_language_would() -> None:
    body = json.dumps(
        {"errorType": "ValueError", "errorMessage": "boom", "stackTrace": ["  File x, line 1\n"]}
    )
    told = describe_function_error("greet", body.encode())
    assert told == "greet failed: ValueError: boom\n  File x, line 1"
    assert describe_function_error("greet", b"no json") == "greet failed: no json"


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7_200)])
def test_ages_have_units(text: str, seconds: int) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "1w"])
def test_an_age_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(CliError, match="--since"):
        parse_age(text)


class FakeLogs:
    """A client of CloudWatch Logs with one page of events."""

    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []

    def get_paginator(self, name: str) -> FakeLogs:
        assert name == "filter_log_events"
        return self

    def paginate(self, **params: object) -> list[dict[str, object]]:
        start = params["startTime"]
        assert isinstance(start, int)
        chosen = [e for e in self.events if isinstance(at := e["timestamp"], int) and at >= start]
        return [{"events": chosen}]

    def add(self, timestamp: int, message: str) -> None:
        self.events.append(
            {"eventId": str(len(self.events)), "timestamp": timestamp, "message": message}
        )


def test_each_log_event_is_printed_once_even_when_it_comes_late(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = FakeLogs()
    reader = LogReader(client, "/aws/lambda/greet", 0)
    client.add(20_000, "second\n")
    client.add(10_000, "first\n")
    assert reader.print_new() == 2
    client.add(19_000, "late\n")
    client.add(30_000, "third\n")
    assert reader.print_new() == 2
    assert reader.print_new() == 0
    assert capsys.readouterr().out.split() == ["first", "second", "late", "third"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.00042, "0.42 ms"), (0.0123, "12.3 ms"), (1.25, "1.25 s")]
)
def test_durations_have_three_digits_that_matter(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_options_of_code_and_of_templates_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    template, code = tmp_path / "template.yaml", tmp_path / "app.py"
    template.write_text("Resources: {}")
    code.write_text("")
    assert run(monkeypatch, "deploy", str(template), "--memory", "512") == 1
    assert run(monkeypatch, "deploy", str(code), "--parameter", "A=1") == 1
    said = capsys.readouterr().err
    assert f"{template} is a template, and some" in said
    assert f"{code} is code, and some" in said
