"""firelet's Java client on every JDK of this machine, against the fake Runtime API."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.conftest import Outcome, Run
from clients.fake_runtime_api import ARN, REQUEST_ID, Event, Faults
from firelet.sandbox.interpreter import Interpreter
from firelet.sandbox.java import ensure_client, find_javas, has_compiler, java_homes

FOUND = {item.prefix: item for item in find_javas(java_homes())}
IMPORTS = (
    "import com.amazonaws.services.lambda.runtime.*;\nimport java.util.*;\nimport java.io.*;\n"
)
RunJava = Callable[..., Outcome]
Compiled = Callable[[str], Path]


@pytest.fixture(params=list(FOUND.values()) or [None], ids=lambda item: item and item.runtime)
def java(request: pytest.FixtureRequest) -> Interpreter:
    if request.param is None:
        pytest.skip("no JDK with javac is installed (JAVA_HOME, PATH, /usr/lib/jvm)")
    found: Interpreter = request.param
    return found


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_client(FOUND.values(), tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="session")
def compiled(client: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Class files of one ``App.java``, by one compiler of this machine."""
    made: dict[str, Path] = {}
    home = next(home for home in FOUND if home is not None and has_compiler(home))

    def compile_source(source: str) -> Path:
        if source not in made:
            folder = tmp_path_factory.mktemp("java")
            (folder / "App.java").write_text(source)
            command = [str(home / "bin" / "javac"), "--release", "17", "-cp", str(client)]
            classes = folder / "classes"
            subprocess.run(
                [*command, "-d", str(classes), str(folder / "App.java")], check=True, timeout=60
            )
            made[source] = classes
        return made[source]

    return compile_source


@pytest.fixture
def run_java(
    java: Interpreter, client: Path, compiled: Compiled, run_client: Run, tmp_path: Path
) -> RunJava:
    """``run_java(source, handler, …)``: the source of ``App.java`` is compiled and served."""

    def run(source: str, handler: str = "App", **options: Any) -> Outcome:
        shutil.copytree(compiled(source), tmp_path / "task")
        assert java.prefix is not None
        command = [str(java.prefix / "bin" / "java"), "-cp", str(client)]
        return run_client([*command, "firelet.runtime.Bootstrap"], {}, handler, **options)

    return run


def bodies(outcome: Outcome) -> list[Any]:
    return [answer.json() for answer in outcome.api.answers()]


ECHO = IMPORTS + (
    "public class App implements RequestHandler<Object, Object> {\n"
    "  public Object handleRequest(Object event, Context context) { return event; }\n}\n"
)


def test_events_are_answered_one_after_the_other(run_java: RunJava) -> None:
    values = [{"n": 1}, 'é\n"\\\t', None, [1.5, -2, True, False, 12345678901, 1e300], {"a": {}}]
    events = [Event(json.dumps(value).encode()) for value in values]
    outcome = run_java(ECHO, events=events)
    assert bodies(outcome) == values
    assert outcome.api.paths()[:3] == [
        "invocation/next",
        "invocation/{id}/response",
        "invocation/next",
    ]
    assert (outcome.stdout, outcome.stderr, outcome.returncode) == ("", "", None)
    assert {request.connection for request in outcome.api.requests} == {0}


BEANS = (
    IMPORTS
    + """
public class App implements RequestHandler<App.Order, App.Receipt> {
  public enum Size { SMALL, LARGE }
  public record Item(String name, int count, List<Size> sizes) {}
  public static class Order {
    private List<Item> records;
    private Map<String, Long> prices;
    private Optional<String> note = Optional.empty();
    public boolean urgent;
    public double[] weights;
    public void setRecords(List<Item> records) { this.records = records; }
    public void setPrices(Map<String, Long> prices) { this.prices = prices; }
    public void setNote(Optional<String> note) { this.note = note; }
  }
  public static class Receipt {
    private final Order order;
    Receipt(Order order) { this.order = order; }
    public String getFirst() { return order.records.get(0).name(); }
    public Item getItem() { return order.records.get(0); }
    public long getTotal() { return order.prices.get("tea"); }
    public boolean isUrgent() { return order.urgent; }
    public double[] getWeights() { return order.weights; }
    public Object getNothing() { return null; }
    public String getNote() { return order.note.orElse("none"); }
    public String getURL() { return "u"; }
  }
  public Receipt handleRequest(Order order, Context context) { return new Receipt(order); }
}
"""
)


def test_values_become_beans_records_and_collections(run_java: RunJava) -> None:
    event = {
        "Records": [{"name": "tea", "count": 2, "sizes": ["SMALL", "LARGE"], "unknown": 1}],
        "prices": {"tea": 12345678901},
        "urgent": True,
        "weights": [1.5, 2],
        "unknown": {},
    }
    (got,) = bodies(run_java(BEANS, events=[Event(json.dumps(event).encode())]))
    assert got == {
        "first": "tea",
        "item": {"name": "tea", "count": 2, "sizes": ["SMALL", "LARGE"]},
        "total": 12345678901,
        "urgent": True,
        "weights": [1.5, 2.0],
        "nothing": None,
        "note": "none",
        "url": "u",
    }


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (b'{"Records": {}}', "an object is no java.util.List"),
        (b'{"Records": [{"count": 3000000000}]}', "3000000000 is out of the range of"),
        (b'{"Records": [{"sizes": ["HUGE"]}]}', "HUGE is no App$Size"),
        (b"[]", "a list is no App$Order"),
    ],
)
def test_an_event_that_does_not_fit_is_an_error_of_the_function(
    run_java: RunJava, event: bytes, cause: str
) -> None:
    (error,) = bodies(run_java(BEANS, events=[Event(event)]))
    assert error["errorMessage"] == "An error occurred during JSON parsing"
    assert error["errorType"] == "java.lang.RuntimeException"
    assert cause in error["cause"]["errorMessage"]


FORMS = (
    IMPORTS
    + """
public class App {
  public String greet(String name) { return "hello " + name; }
  public static int twice(int n) { return 2 * n; }
  public Integer withContext(Map<String, Integer> event, Context context) {
    return event.get("n") + context.getMemoryLimitInMB();
  }
  public void stream(InputStream in, OutputStream out, Context context) throws IOException {
    out.write(("\\"" + new String(in.readAllBytes()).length() + "\\"").getBytes());
  }
  public void nothing() {}
  private void hidden(String event) {}
  public void tooMany(String a, String b, String c) {}
}
"""
)


@pytest.mark.parametrize(
    ("method", "event", "answer"),
    [
        ("greet", b'"you"', "hello you"),
        ("twice", b"21", 42),
        ("withContext", b'{"n": 2}', 130),
        ("stream", b"[1,2]", "5"),
        ("nothing", b"{}", None),
    ],
)
def test_any_public_method_can_be_the_handler(
    run_java: RunJava, method: str, event: bytes, answer: Any
) -> None:
    assert bodies(run_java(FORMS, f"App::{method}", events=[Event(event)])) == [answer]


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        ("No.Such", "java.lang.ClassNotFoundException", "Class not found: No.Such"),
        ("App::absent", "java.lang.NoSuchMethodException", "No public method named absent"),
        ("App::hidden", "java.lang.NoSuchMethodException", "No public method named hidden"),
        ("App::tooMany", "java.lang.NoSuchMethodException", "No public method named tooMany"),
        ("App", "java.lang.Exception", "does not implement an appropriate handler interface"),
    ],
)
def test_a_handler_that_is_not_there_is_an_init_error(
    run_java: RunJava, handler: str, kind: str, message: str
) -> None:
    outcome = run_java(FORMS, handler)
    assert outcome.api.paths() == ["init/error"]
    (error,) = bodies(outcome)
    assert error["errorType"] == kind
    assert message in error["errorMessage"]
    assert outcome.returncode == 1


def test_an_initialiser_that_throws_is_an_init_error(run_java: RunJava) -> None:
    source = IMPORTS + (
        "public class App implements RequestHandler<String, String> {\n"
        '  public App() { throw new IllegalStateException("at load"); }\n'
        "  public String handleRequest(String event, Context context) { return event; }\n}\n"
    )
    outcome = run_java(source)
    assert outcome.api.paths() == ["init/error"]
    (error,) = bodies(outcome)
    assert (error["errorType"], error["errorMessage"]) == (
        "java.lang.IllegalStateException",
        "at load",
    )


def test_an_error_is_told_with_its_own_frames_and_cause(run_java: RunJava) -> None:
    source = IMPORTS + (
        "public class App implements RequestHandler<Boolean, String> {\n"
        "  public String handleRequest(Boolean bad, Context context) {\n"
        '    if (bad) throw new IllegalArgumentException("no good", new IOException("deep"));\n'
        '    return "good";\n  }\n}\n'
    )
    outcome = run_java(source, events=[Event(b"true"), Event(b"false")])
    error, good = bodies(outcome)
    assert error["errorMessage"] == "no good"
    assert error["errorType"] == "java.lang.IllegalArgumentException"
    assert error["stackTrace"] == ["App.handleRequest(App.java:6)"]
    assert error["cause"]["errorType"] == "java.io.IOException"
    assert error["cause"]["errorMessage"] == "deep"
    header = outcome.api.answers()[0].headers["lambda-runtime-function-error-type"]
    assert header == "java.lang.IllegalArgumentException"
    assert good == "good"
    assert "no good" in outcome.stdout


def test_the_context_of_the_invocation(run_java: RunJava) -> None:
    source = (
        IMPORTS
        + """
public class App implements RequestHandler<Object, Map<String, Object>> {
  public Map<String, Object> handleRequest(Object event, Context context) {
    Map<String, Object> seen = new LinkedHashMap<>();
    seen.put("id", context.getAwsRequestId());
    seen.put("arn", context.getInvokedFunctionArn());
    seen.put("name", context.getFunctionName());
    seen.put("left", context.getRemainingTimeInMillis());
    seen.put("custom", context.getClientContext().getCustom());
    seen.put("title", context.getClientContext().getClient().getAppTitle());
    seen.put("identity", context.getIdentity().getIdentityId());
    seen.put("trace", System.getProperty("com.amazonaws.xray.traceHeader") != null);
    context.getLogger().log("logged\\n");
    LambdaRuntime.getLogger().log("anywhere\\n".getBytes());
    return seen;
  }
}
"""
    )
    headers = {
        "Lambda-Runtime-Client-Context": '{"custom":{"a":"b"},"client":{"app_title":"shop"}}',
        "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId":"x"}',
    }
    outcome = run_java(source, events=[Event(headers=headers)])
    (got,) = bodies(outcome)
    assert 0 < got.pop("left") <= 60_000
    assert got == {
        "id": REQUEST_ID,
        "arn": ARN,
        "name": "hello",
        "custom": {"a": "b"},
        "title": "shop",
        "identity": "x",
        "trace": True,
    }
    assert outcome.stdout == "logged\nanywhere\n"


def test_lines_are_json_where_the_function_wants_it(run_java: RunJava) -> None:
    source = IMPORTS + (
        "import com.amazonaws.services.lambda.runtime.logging.LogLevel;\n"
        "public class App implements RequestHandler<Object, String> {\n"
        "  public String handleRequest(Object event, Context context) {\n"
        '    context.getLogger().log("kept", LogLevel.WARN);\n'
        '    context.getLogger().log("dropped", LogLevel.DEBUG);\n'
        "    return null;\n  }\n}\n"
    )
    env = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"}
    (line,) = run_java(source, env=env).stdout.splitlines()
    logged = json.loads(line)
    assert logged.pop("timestamp").endswith("Z")
    assert logged == {"level": "WARN", "message": "kept", "AWSRequestId": REQUEST_ID}


def test_a_cycle_and_deep_nesting_are_errors_of_the_function(run_java: RunJava) -> None:
    source = IMPORTS + (
        "public class App implements RequestHandler<Object, Object> {\n"
        "  public Object handleRequest(Object event, Context context) {\n"
        "    List<Object> list = new ArrayList<>(); list.add(list); return list;\n  }\n}\n"
    )
    deep = b"[" * 100_000
    cycle, nested = bodies(run_java(source, events=[Event(), Event(deep)]))
    assert cycle["errorMessage"] == "An error occurred during JSON serialization of response"
    assert nested["errorMessage"] == "An error occurred during JSON parsing"


def test_a_broken_runtime_api_ends_the_process(run_java: RunJava) -> None:
    outcome = run_java(ECHO, faults=Faults(raw_next=b"garbage\r\n\r\n"))
    assert outcome.returncode == 2
    assert "The Runtime API answered garbage" in outcome.stderr


def test_answers_that_dribble_are_put_together(run_java: RunJava) -> None:
    body = json.dumps({"text": "é" * 2_000}).encode()
    outcome = run_java(ECHO, events=[Event(body)], faults=Faults(dribbles=True))
    assert bodies(outcome) == [json.loads(body)]
