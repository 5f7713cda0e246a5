"""Functions in Java and Ruby: in a sandbox, with the class path and the folders of AWS."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from extension_layers import SHELL, ExtensionLayers, log_of, until_logged
from firelet.sandbox.interpreter import Interpreter
from firelet.sandbox.java import ensure_client, find_javas, has_compiler, java_homes
from firelet.sandbox.ruby import find_ruby
from running_platform import Deployer, Platform, pack, wait_until
from web_client import fetch

pytest_plugins = ("platform_fixtures",)

JAVAS = sorted(find_javas(java_homes()), key=lambda item: item.runtime)
SOURCE = """
import com.amazonaws.services.lambda.runtime.*;
import java.util.*;
public class App implements RequestHandler<Map<String, Object>, Map<String, Object>> {
  public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
    System.out.println("from java");
    Map<String, Object> seen = new TreeMap<>();
    seen.put("event", event);
    seen.put("version", Runtime.version().feature());
    seen.put("home", System.getProperty("java.home"));
    seen.put("heap", Runtime.getRuntime().maxMemory() / 1048576);
    seen.put("inLibrary", Library.NAME);
    seen.put("user", System.getProperty("user.name"));
    seen.put("env", System.getenv("AWS_EXECUTION_ENV"));
    if (event.containsKey("fill")) { List<byte[]> all = new ArrayList<>();
      while (true) all.add(new byte[1 << 20]); }
    return seen;
  }
}
"""
# What a function URL and Invoke show of a function that its wrapper has told something.
TALKER = """
import com.amazonaws.services.lambda.runtime.*;
import java.util.*;
public class Talker implements RequestHandler<Map<String, Object>, Map<String, Object>> {
  public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
    context.getLogger().log("said by the function");
    Map<String, Object> seen = new TreeMap<>();
    seen.put("wrapped", String.valueOf(System.getenv("WRAPPED")));
    seen.put("path", event.get("rawPath"));
    return seen;
  }
}
"""
WRAPPER = '#!/bin/bash\nexport WRAPPED=yes\nexec "$@"\n'
LIBRARY = 'public class Library { public static final String NAME = new String("in a jar"); }\n'


@pytest.fixture(params=JAVAS or [None], ids=lambda item: item and item.runtime)
def java(request: pytest.FixtureRequest) -> Interpreter:
    if request.param is None:
        pytest.skip("no JDK with javac is installed (JAVA_HOME, PATH, /usr/lib/jvm)")
    found: Interpreter = request.param
    return found


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """App.class and Library.class, for the oldest Java of this machine."""
    folder = tmp_path_factory.mktemp("java")
    compiled(folder, Library=LIBRARY, App=SOURCE)
    return folder / "out"


def compiled(folder: Path, **sources: str) -> None:
    """Writes classes into ``folder / "out"``, for the oldest Java of this machine."""
    client = ensure_client(JAVAS, folder / "clients")
    for name, source in sources.items():
        (folder / f"{name}.java").write_text(source)
    home = next(java.prefix for java in JAVAS if java.prefix and has_compiler(java.prefix))
    oldest = min(int(java.runtime.removeprefix("java").partition(".")[0]) for java in JAVAS)
    subprocess.run(
        [
            *(str(home / "bin" / "javac"), "--release", str(oldest), "-cp", str(client)),
            *("-d", str(folder / "out")),
            *(str(folder / f"{name}.java") for name in sources),
        ],
        check=True,
        timeout=60,
    )


def assert_talks(platform: Platform, name: str) -> None:
    """By Invoke and behind a URL, inside its wrapper and beside its extension."""
    direct = platform.invoke(name, {"rawPath": "/direct"})
    assert direct.error is None, direct.body
    assert direct.json == {"wrapped": "yes", "path": "/direct"}
    client = platform.client("lambda")
    for statement, action in (("a", "lambda:InvokeFunctionUrl"), ("b", "lambda:InvokeFunction")):
        client.add_permission(
            FunctionName=name, StatementId=statement, Action=action, Principal="*"
        )
    url = client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    answer = fetch(f"{url}some/path")
    assert (answer.status, answer.json) == (200, {"wrapped": "yes", "path": "/some/path"})
    heard = f"shell got INVOKE {direct.request_id}\n"
    assert heard in until_logged(platform, name, heard.strip())


def jar_of(path: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(path, path.name)
    return buffer.getvalue()


def test_a_java_function_finds_its_classes_its_jars_and_its_memory(
    deploy: Deployer, platform: Platform, java: Interpreter, classes: Path
) -> None:
    name = deploy(
        {
            "App.class": (classes / "App.class").read_bytes(),
            "lib/library.jar": jar_of(classes / "Library.class"),
        },
        Runtime=java.runtime,
        Handler="App::handleRequest",
        MemorySize=256,
        Timeout=30,
    )
    answer = platform.invoke(name, {"n": 1}, LogType="Tail")
    assert answer.error is None, answer.body
    seen = answer.json
    version = int(java.runtime.removeprefix("java").partition(".")[0])
    assert seen.pop("heap") in range(200, 219)  # 85 % of 256, less one survivor space
    assert seen == {
        "event": {"n": 1},
        "version": version,
        "home": "/var/lang",
        "inLibrary": "in a jar",
        "user": seen["user"],
        "env": f"AWS_Lambda_{java.runtime}",
    }
    assert "from java\n" in answer.log


def test_a_layer_is_on_the_class_path(
    deploy: Deployer, platform: Platform, java: Interpreter, classes: Path
) -> None:
    client = platform.client("lambda")
    content = pack({"java/lib/library.jar": jar_of(classes / "Library.class")})
    layer = client.publish_layer_version(LayerName="library", Content={"ZipFile": content})
    name = deploy(
        {"App.class": (classes / "App.class").read_bytes()},
        Runtime=java.runtime,
        Handler="App",
        Layers=[layer["LayerVersionArn"]],
        MemorySize=256,
        Timeout=30,
    )
    assert platform.invoke(name, {}).json["inLibrary"] == "in a jar"


def test_a_full_heap_ends_the_jvm_and_a_fresh_one_serves(
    deploy: Deployer, platform: Platform, classes: Path
) -> None:
    name = deploy(
        {
            "App.class": (classes / "App.class").read_bytes(),
            "lib/library.jar": jar_of(classes / "Library.class"),
        },
        Runtime=JAVAS[0].runtime,
        Handler="App",
        MemorySize=256,
        Timeout=30,
    )
    failed = platform.invoke(name, {"fill": True})
    assert failed.error == "Unhandled"
    assert failed.json["errorType"] == "java.lang.OutOfMemoryError"
    assert platform.invoke(name, {"n": 2}).json["event"] == {"n": 2}


def test_options_of_the_function_win(
    deploy: Deployer, platform: Platform, java: Interpreter, classes: Path
) -> None:
    name = deploy(
        {
            "App.class": (classes / "App.class").read_bytes(),
            "lib/library.jar": jar_of(classes / "Library.class"),
        },
        Runtime=java.runtime,
        Handler="App",
        MemorySize=512,
        Timeout=30,
        Environment={"Variables": {"JAVA_TOOL_OPTIONS": "-Xmx64m"}},
    )
    assert platform.invoke(name, {}).json["heap"] <= 64


@pytest.fixture(scope="session")
def talker(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Talker.class, which answers function URLs and logs."""
    folder = tmp_path_factory.mktemp("talker")
    compiled(folder, Talker=TALKER)
    return (folder / "out" / "Talker.class").read_bytes()


def test_a_java_function_with_json_logs_a_wrapper_an_extension_and_a_url(
    deploy: Deployer,
    platform: Platform,
    publish_extensions: ExtensionLayers,
    java: Interpreter,
    talker: bytes,
) -> None:
    name = deploy(
        {"Talker.class": talker, "wrapper": WRAPPER},
        executable=("wrapper",),
        Runtime=java.runtime,
        Handler="Talker",
        MemorySize=256,
        Timeout=30,
        Layers=[publish_extensions(**{"in-shell": SHELL})],
        LoggingConfig={"LogFormat": "JSON"},
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}},
    )
    assert_talks(platform, name)
    records = [json.loads(line) for line in log_of(platform, name) if line.startswith("{")]
    said = [each for each in records if each.get("message") == "said by the function"]
    assert [each["level"] for each in said] == ["UNDEFINED", "UNDEFINED"]


def test_snap_start_of_a_java_version_fails_and_says_why(
    deploy: Deployer, platform: Platform, java: Interpreter, talker: bytes
) -> None:
    name = deploy(
        {"Talker.class": talker},
        Runtime=java.runtime,
        Handler="Talker",
        MemorySize=256,
        Timeout=30,
        SnapStart={"ApplyOn": "PublishedVersions"},
    )
    assert platform.invoke(name, {}).error is None  # $LATEST has no snapshot
    client = platform.client("lambda")
    client.publish_version(FunctionName=name)

    def settled() -> Any:
        found = client.get_function_configuration(FunctionName=name, Qualifier="1")
        return None if found["State"] == "Pending" else found

    found = wait_until(settled, "the version is settled")
    assert found["State"] == "Failed"
    assert found["StateReason"] == f"SnapStart is not available for {java.runtime} on this host."
    with pytest.raises(ClientError) as caught:
        platform.invoke(name, {}, Qualifier="1")
    assert "Failed" in caught.value.response["Error"]["Message"]


@pytest.fixture
def ruby_platform(make_platform: Callable[..., Platform]) -> Platform:
    """A platform where ruby3.3 is what this machine has."""
    path = shutil.which("ruby")
    if path is None or find_ruby() is None:
        pytest.skip("ruby is not installed (PATH)")
    return make_platform(FIRELET_INTERPRETERS=f"ruby3.3={path}")


def test_a_ruby_function_serves_with_its_gems_and_layers(ruby_platform: Platform) -> None:
    layer = ruby_platform.client("lambda").publish_layer_version(
        LayerName="ruby-library",
        Content={"ZipFile": pack({"ruby/lib/shared.rb": "SHARED = 'from a layer'\n"})},
    )
    deployer = Deployer(ruby_platform)
    name = deployer(
        {
            "app.rb": "require 'shared'\nrequire 'gift'\n"
            "def handler(event:, context:)\n  puts 'from ruby'\n"
            "  [event, SHARED, GIFT, ENV['GEM_PATH'], context.function_name]\nend\n",
            "vendor/bundle/ruby/3.3.0/gems/gift-1.0/lib/gift.rb": "GIFT = 'from a gem'\n",
            "vendor/bundle/ruby/3.3.0/specifications/gift-1.0.gemspec": "Gem::Specification.new "
            "{ |s| s.name = 'gift'; s.version = '1.0'; s.summary = ''; s.authors = ['a'] }\n",
        },
        Runtime="ruby3.3",
        Handler="app.handler",
        Layers=[layer["LayerVersionArn"]],
    )
    answer = ruby_platform.invoke(name, {"n": 1}, LogType="Tail")
    path = "/var/task/vendor/bundle/ruby/3.3.0:/opt/ruby/gems/3.3.0"
    assert answer.json == [{"n": 1}, "from a layer", "from a gem", path, name]
    assert "from ruby\n" in answer.log
    deployer.close()


def test_a_ruby_error_is_told_as_on_aws(ruby_platform: Platform) -> None:
    deployer = Deployer(ruby_platform)
    name = deployer(
        {"app.rb": "def handler(event:, context:)\n  raise 'no good'\nend\n"},
        Runtime="ruby3.3",
        Handler="app.handler",
    )
    answer = ruby_platform.invoke(name, {})
    assert answer.error == "Unhandled"
    assert (answer.json["errorType"], answer.json["errorMessage"]) == (
        "Function<RuntimeError>",
        "no good",
    )
    deployer.close()


def test_a_ruby_function_with_json_logs_a_wrapper_an_extension_and_a_url(
    ruby_platform: Platform,
) -> None:
    deployer = Deployer(ruby_platform)
    layers = ExtensionLayers(ruby_platform)
    code = """
def handler(event:, context:)
  puts 'said by the function'
  { wrapped: ENV['WRAPPED'], path: event['rawPath'] }
end
"""
    name = deployer(
        {"app.rb": code, "wrapper": WRAPPER},
        executable=("wrapper",),
        Runtime="ruby3.3",
        Handler="app.handler",
        Timeout=10,
        Layers=[layers(**{"in-shell": SHELL})],
        LoggingConfig={"LogFormat": "JSON"},
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}},
    )
    assert_talks(ruby_platform, name)
    lines = log_of(ruby_platform, name)
    assert lines.count("said by the function\n") == 2
    kinds = {json.loads(line)["type"] for line in lines if line.startswith("{")}
    assert {"platform.initStart", "platform.start", "platform.report"} <= kinds
    deployer.close()
