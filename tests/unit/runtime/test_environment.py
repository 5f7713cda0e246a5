"""The variables of the runtime process and the command that starts it."""

from __future__ import annotations

import pytest

from firelet.model.function import LoggingConfig
from firelet.runtime.environment import (
    SessionCredentials,
    plain_command,
    runtime_command,
    runtime_environment,
    runtime_family,
)
from unit.versions import make_version

CREDENTIALS = SessionCredentials("ASIAEXAMPLE", "secret", "token", 4_102_444_800.0)
STREAM = "2026/11/23/[$LATEST]" + "0" * 32
BOOTSTRAP = "/var/task/bootstrap"
CLIENT = "/var/runtime/client"

RESERVED = {
    "_HANDLER": "app.handler",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "AWS_LAMBDA_FUNCTION_NAME": "hello",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/hello",
    "AWS_LAMBDA_LOG_STREAM_NAME": STREAM,
    "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
}

LIBRARY_PATH = (
    "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
)


def environment_of(**changes: object) -> dict[str, str]:
    return runtime_environment(make_version(**changes), STREAM, CREDENTIALS)


def test_a_python_function_sees_the_variables_of_the_real_service() -> None:
    assert environment_of() == {
        **RESERVED,
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "TZ": ":UTC",
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": LIBRARY_PATH,
        "SHLVL": "0",
        "PWD": "/var/task",
        "PYTHONPATH": "/var/runtime",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
        "_AWS_XRAY_DAEMON_PORT": "2000",
        "_LAMBDA_TELEMETRY_LOG_FD": "3",
    }


def test_a_node_function_finds_its_modules() -> None:
    environment = environment_of(runtime="nodejs22.x")
    assert environment["NODE_PATH"] == (
        "/opt/nodejs/node22/node_modules:/opt/nodejs/node_modules:"
        "/var/runtime/node_modules:/var/runtime:/var/task"
    )
    assert environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_nodejs22.x"
    assert "PYTHONPATH" not in environment


def test_a_custom_runtime_has_no_execution_environment() -> None:
    environment = environment_of(runtime="provided.al2023")
    assert not {"AWS_EXECUTION_ENV", "PYTHONPATH", "NODE_PATH", "_LAMBDA_TELEMETRY_LOG_FD"} & set(
        environment
    )


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_reserved_variable_is_the_platform_s(name: str) -> None:
    assert environment_of(environment={name: "mine"})[name] == RESERVED[name]


@pytest.mark.parametrize("name", ["LANG", "PATH", "PYTHONPATH", "TZ", "AWS_XRAY_CONTEXT_MISSING"])
def test_a_user_may_set_what_is_not_reserved(name: str) -> None:
    assert environment_of(environment={name: "mine"})[name] == "mine"


def test_the_interpreter_finds_its_own_libraries_whatever_the_user_says() -> None:
    theirs = environment_of(environment={"LD_LIBRARY_PATH": "/opt/mine"})["LD_LIBRARY_PATH"]
    assert theirs == "/opt/mine:/var/lang/lib"


def test_a_user_s_own_variables_are_there() -> None:
    assert environment_of(environment={"TABLE": "orders"})["TABLE"] == "orders"


def test_the_json_format_is_told_with_its_level() -> None:
    group = "/aws/lambda/hello"
    plain = environment_of(logging=LoggingConfig(log_group=group))
    assert not {"AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL"} & set(plain)
    json = environment_of(
        logging=LoggingConfig(log_group=group, log_format="JSON", application_log_level="DEBUG")
    )
    assert (json["AWS_LAMBDA_LOG_FORMAT"], json["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "DEBUG")


class TestCommand:
    def test_a_python_function_is_forked_from_the_preloaded_client(self) -> None:
        assert runtime_command(make_version(), BOOTSTRAP) is None

    @pytest.mark.parametrize("name", ["TABLE", "PYTHONPATH", "PATH", "TZ", "LANG"])
    def test_variables_that_a_fork_can_apply_do_not_prevent_it(self, name: str) -> None:
        version = make_version(environment={name: "x"})
        assert runtime_command(version, BOOTSTRAP) is None

    @pytest.mark.parametrize(
        "name",
        ["PYTHONHASHSEED", "PYTHONMALLOC", "PYTHONWARNINGS", "LD_PRELOAD", "LD_LIBRARY_PATH"],
    )
    def test_variables_that_act_at_start_up_force_a_plain_start(self, name: str) -> None:
        version = make_version(environment={name: "x"})
        assert runtime_command(version, BOOTSTRAP) == (
            "/var/lang/bin/python3.13",
            f"{CLIENT}/bootstrap.py",
        )

    def test_a_wrapper_gets_the_whole_command(self) -> None:
        version = make_version(environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"})
        assert runtime_command(version, BOOTSTRAP) == (
            "/opt/wrap",
            "/var/lang/bin/python3.13",
            f"{CLIENT}/bootstrap.py",
        )

    @pytest.mark.parametrize("name", ["TABLE", "NODE_PATH", "NODE_ENV", "PYTHONHASHSEED"])
    def test_a_node_function_is_run_by_the_waiting_process(self, name: str) -> None:
        version = make_version(runtime="nodejs20.x", environment={name: "x"})
        assert runtime_command(version, BOOTSTRAP) is None

    @pytest.mark.parametrize("name", ["NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "UV_THREADPOOL_SIZE"])
    def test_what_node_reads_when_it_starts_forces_a_plain_start(self, name: str) -> None:
        version = make_version(runtime="nodejs20.x", environment={name: "x"})
        assert runtime_command(version, BOOTSTRAP) == plain_command(version, BOOTSTRAP)

    def test_node_starts_its_client(self) -> None:
        assert plain_command(make_version(runtime="nodejs20.x"), BOOTSTRAP) == (
            "/var/lang/bin/node",
            f"{CLIENT}/firelet/guest/node_runtime.cjs",
        )

    def test_a_custom_runtime_starts_its_bootstrap(self) -> None:
        version = make_version(runtime="provided.al2023")
        assert runtime_command(version, BOOTSTRAP) == (BOOTSTRAP,)


@pytest.mark.parametrize(
    ("runtime", "family"),
    [
        ("python3.13", "python"),
        ("nodejs22.x", "nodejs"),
        ("provided.al2023", "provided"),
        ("provided", "provided"),
        ("java21", "java"),
        ("java8.al2", "java"),
        (None, ""),
    ],
)
def test_a_family_is_the_identifier_without_its_version(runtime: str | None, family: str) -> None:
    assert runtime_family(runtime) == family
