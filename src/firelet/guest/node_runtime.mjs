// The name under which the Node.js runtime client is run. The client itself is CommonJS: as the
// entry point that skips the ES module loader, which costs about 5 ms of a start.
import "./node_runtime.cjs";
