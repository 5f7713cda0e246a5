"""Functions in Java and Ruby: in a sandbox, with the class path and the folders of AWS."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from firelet.sandbox.interpreter import Interpreter
from firelet.sandbox.java import ensure_client, find_javas, has_compiler, java_homes
from firelet.sandbox.ruby import find_ruby
from running_platform import Deployer, Platform, pack

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
    client = ensure_client(JAVAS, folder / "clients")
    (folder / "App.java").write_text(SOURCE)
    (folder / "Library.java").write_text(LIBRARY)
    home = next(java.prefix for java in JAVAS if java.prefix and has_compiler(java.prefix))
    oldest = min(int(java.runtime.removeprefix("java").partition(".")[0]) for java in JAVAS)
    subprocess.run(
        [
            str(home / "bin" / "javac"),
            "--release",
            str(oldest),
            "-cp",
            str(client),
            "-d",
            str(folder / "out"),
            str(folder / "App.java"),
            str(folder / "Library.java"),
        ],
        check=True,
        timeout=60,
    )
    return folder / "out"


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
