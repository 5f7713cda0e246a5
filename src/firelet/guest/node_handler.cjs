// Finds the function that _HANDLER names. Runs the customer's module: this is function INIT.
// Source: UserFunction of the official client, versions 3 and 4, sentences word for word.
"use strict";

const fs = require("node:fs");
const { createRequire } = require("node:module");
const path = require("node:path");
const {
  HandlerNotFound,
  ImportModuleError,
  MalformedHandlerName,
  UserCodeSyntaxError,
} = require("./node_errors.cjs");

// Resolves with the handler. Errors: those of AWS's names, or what the module throws while it is loaded.
// ``isModern`` also looks into the default export, as the client of Node.js 24 does.
async function loadHandler(environment, isModern) {
  const name = environment._HANDLER;
  const { root, moduleName, exportPath } = parseHandlerName(name);
  const taskRoot = environment.LAMBDA_TASK_ROOT ?? process.cwd();
  const module = await loadModule(taskRoot, root, moduleName, runtimeRequire(environment));
  let handler = findExport(module, exportPath);
  if (!handler && isModern) {
    handler = findExport(module?.default, exportPath);
  }
  if (!handler) {
    throw new HandlerNotFound(`${name} is undefined or not exported`);
  }
  if (typeof handler !== "function") {
    throw new HandlerNotFound(`${name} is not a function`);
  }
  return handler;
}

// "src/app.a.b" is the export a.b of module app in folder src/.
function parseHandlerName(name) {
  if (name.includes("..")) {
    throw new MalformedHandlerName(
      `'${name}' is not a valid handler name. Use absolute paths when specifying root ` +
        "directories in handler names.",
    );
  }
  const last = path.basename(name);
  const dot = last.indexOf(".");
  if (dot < 0) {
    throw new MalformedHandlerName("Bad handler");
  }
  return {
    root: name.slice(0, name.indexOf(last)),
    moduleName: last.slice(0, dot),
    exportPath: last.slice(dot + 1),
  };
}

function findExport(module, exportPath) {
  return exportPath.split(".").reduce((found, key) => found && found[key], module);
}

// As if required by AWS's own client: its path is what "Require stack:" shows to users.
function runtimeRequire(environment) {
  return createRequire(path.join(environment.LAMBDA_RUNTIME_DIR ?? "/var/runtime", "index.mjs"));
}

async function loadModule(taskRoot, root, moduleName, require) {
  try {
    return await findModule(taskRoot, root, moduleName, require);
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new UserCodeSyntaxError(error);
    }
    if (error?.code === "MODULE_NOT_FOUND") {
      throw new ImportModuleError(String(error));
    }
    throw error;
  }
}

async function findModule(taskRoot, root, moduleName, require) {
  const file = path.resolve(taskRoot, root, moduleName);
  if (fs.existsSync(file)) {
    const found = requireOrImport(file, require);
    // A directory without an index is no module; the look-up goes on.
    if (found) {
      return found;
    }
  }
  if (fs.existsSync(`${file}.js`)) {
    const isEsm = isInModulePackage(path.dirname(file));
    return isEsm ? import(`${file}.js`) : requireOrImport(`${file}.js`, require);
  }
  if (fs.existsSync(`${file}.mjs`)) {
    return import(`${file}.mjs`);
  }
  if (fs.existsSync(`${file}.cjs`)) {
    return require(`${file}.cjs`);
  }
  return require(require.resolve(moduleName, { paths: [taskRoot, path.join(taskRoot, root)] }));
}

// require, except for a module whose own top-level await makes that impossible.
function requireOrImport(file, require) {
  try {
    return require(file);
  } catch (error) {
    if (error?.code === "ERR_REQUIRE_ASYNC_MODULE") {
      return import(file);
    }
    throw error;
  }
}

// The nearest package.json up the tree says whether .js means ES module.
function isInModulePackage(folder) {
  for (; !folder.endsWith("/node_modules"); folder = path.dirname(folder)) {
    const file = path.join(folder, "package.json");
    if (fs.existsSync(file)) {
      return readPackageType(file) === "module";
    }
    if (folder === "/") {
      return false;
    }
  }
  return false;
}

function readPackageType(file) {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8"))?.type;
  } catch (error) {
    console.warn(
      `${file} cannot be read, it will be ignored for ES module detection purposes.`,
      error,
    );
    return undefined;
  }
}

module.exports = { loadHandler };
