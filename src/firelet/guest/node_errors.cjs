// Errors of a Node.js function, as the documents and log texts that AWS's client makes of them.
// No state, no I/O. Source: Errors and XRayError of the official client, versions 3 and 4.
"use strict";

// Errors that the runtime itself reports. Their names are on the prototypes, so that logs of an
// error's own properties do not repeat them.
class ImportModuleError extends Error {}
class HandlerNotFound extends Error {}
class MalformedHandlerName extends Error {}
class CallbackHandlerDeprecated extends Error {}
class JSONStringifyError extends Error {}
class InvalidStreamingOperation extends Error {}
class MalformedStreamingHandler extends Error {}

class UserCodeSyntaxError extends Error {
  constructor(cause) {
    super(String(cause));
    // The parser's stack names the file and the line; this one would name the loader.
    this.stack = cause.stack;
  }
}

class UnhandledPromiseRejection extends Error {
  constructor(reason, promise) {
    super(asMessage(reason));
    this.reason = reason;
    this.promise = promise;
  }
}

const faults = {
  ImportModuleError,
  HandlerNotFound,
  MalformedHandlerName,
  CallbackHandlerDeprecated,
  JSONStringifyError,
  InvalidStreamingOperation,
  MalformedStreamingHandler,
  UserCodeSyntaxError,
  UnhandledPromiseRejection,
};
for (const [name, fault] of Object.entries(faults)) {
  fault.prototype.name = `Runtime.${name}`;
}

function asMessage(reason) {
  try {
    return String(reason);
  } catch {
    return "an object that has no text";
  }
}

function looksLikeError(value) {
  return (
    value instanceof Error ||
    ["name", "message", "stack"].every((key) => typeof value?.[key] === "string" && value[key])
  );
}

// The body of /error and /init/error. DEL is escaped because the type also travels in a header.
function errorDocument(error) {
  try {
    if (looksLikeError(error)) {
      return {
        errorType: error.name?.replaceAll("\x7f", "%7F"),
        errorMessage: error.message?.replaceAll("\x7f", "%7F"),
        trace: (error.stack ?? "").replaceAll("\x7f", "%7F").split("\n"),
      };
    }
    return { errorType: typeof error, errorMessage: error.toString(), trace: [] };
  } catch {
    return {
      errorType: "handled",
      errorMessage:
        "callback called with Error argument, but there was a problem while retrieving one or " +
        "more of its message, name, and stack",
      trace: [],
    };
  }
}

// The document of Lambda-Runtime-Function-XRay-Error-Cause; "" if the error defies description.
function xrayCause(error) {
  try {
    const stack = stackFrames(error.stack);
    return JSON.stringify({
      working_directory: process.cwd(),
      exceptions: [
        {
          type: error.name?.replaceAll("\x7f", "%7F"),
          message: error.message?.replaceAll("\x7f", "%7F"),
          stack,
        },
      ],
      paths: [...new Set(stack.map((frame) => frame.path))],
    });
  } catch {
    return "";
  }
}

function stackFrames(stack) {
  const lines = (stack ?? "").replaceAll("\x7f", "%7F").split("\n").slice(1);
  return lines.map((line) => {
    // "at label (path:line:column)" or "at path:line:column"
    const text = line.trim().replace(/[()]/g, "").replace(/^\S*\s/, "");
    const blank = text.lastIndexOf(" ");
    const [path, number] = text.slice(blank + 1).split(":");
    const label = text.slice(0, Math.max(blank, 0)) || "anonymous";
    return { path, line: parseInt(number, 10), label };
  });
}

// The text after "Invoke Error": one tab, one JSON document with the error's own properties.
function formatForLog(error) {
  try {
    return "\t" + JSON.stringify(error, (_key, value) => withProperties(value));
  } catch {
    return "\t" + JSON.stringify(errorDocument(error));
  }
}

function withProperties(value) {
  if (!(value instanceof Error)) {
    return value;
  }
  const known = { errorType: value.name, errorMessage: value.message, code: value.code };
  const document = Object.assign(known, value);
  if (typeof value.stack === "string") {
    document.stack = value.stack.split("\n");
  }
  return document;
}

function intoError(value) {
  return value instanceof Error ? value : new Error(asMessage(value));
}

module.exports = { ...faults, errorDocument, formatForLog, intoError, xrayCause };
