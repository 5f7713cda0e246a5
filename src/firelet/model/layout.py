"""Where things are inside a sandbox: what its root is built to, and what its runtime is told.

Source: the layout of the Lambda execution environment, as recorded from the real service.
"""

from __future__ import annotations

CLIENT = "/var/runtime/client"  # firelet's own runtime clients
PYTHON_BOOTSTRAP = f"{CLIENT}/bootstrap.py"
NODE_RUNTIME = f"{CLIENT}/firelet/guest/node_runtime.cjs"
NODE_EMBRYO = f"{CLIENT}/firelet/guest/node_embryo.cjs"
JAVA_CLIENT = "/var/runtime/lib/firelet-java-client.jar"
RUBY_RUNTIME = f"{CLIENT}/firelet/guest/ruby_runtime.rb"
DEBUGGER_PATH = "/var/runtime/debugger"
ZYGOTE = f"{CLIENT}/firelet/guest/zygote.py"
INTERPRETER_LIBRARIES = "/var/lang/lib"

# ld.so remembers it from the start of a process. The directories must exist in the base root: it
# never again looks into one that it found missing.
LIBRARY_PATH = (
    f"{INTERPRETER_LIBRARIES}:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib"
    ":/var/task:/var/task/lib:/opt/lib"
)
