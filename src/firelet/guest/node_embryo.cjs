// A Node.js process that waits for its function: started ahead of time in a sandbox that has none
// yet, with everything loaded that does not depend on one. Pid 1 of the sandbox writes the
// environment and the directory, as one JSON text, to descriptor 4 and closes it.
"use strict";

const fs = require("node:fs");
const Module = require("node:module");

require("./node_client.cjs");
require("./node_console.cjs");
require("./node_errors.cjs");
require("./node_handler.cjs");

const START_FD = 4;

async function main() {
  // The first import() sets up the loader of ES modules, which takes longer than most handlers.
  await import("node:path");
  const start = fs.readFileSync(START_FD, "utf8");
  fs.closeSync(START_FD);
  if (start === "") {
    process.exit(0); // pid 1 let go of us
  }
  const { environment, directory } = JSON.parse(start);
  for (const name of Object.keys(process.env)) {
    delete process.env[name];
  }
  Object.assign(process.env, environment);
  process.chdir(directory);
  Module._initPaths(); // NODE_PATH was read when the process started
  require("./node_runtime.cjs");
}

void main();
