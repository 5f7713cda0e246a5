// The console of a Node.js function: AWS's text or JSON lines, on standard output or as framed
// records on the telemetry pipe. Patched once, before the function's code is loaded.
// Source: LogPatch of the official client, versions 3 and 4.
"use strict";

const fs = require("node:fs");
const { format } = require("node:util");
const { formatForLog, intoError } = require("./node_errors.cjs");

const TELEMETRY_VARIABLE = "_LAMBDA_TELEMETRY_LOG_FD";
const FRAME_TEXT = 0xa55a0003;
const FRAME_JSON = 0xa55a0002;
const FRAME_HEAD_BYTES = 16;

// Priority times four is also the level in bits 2 to 4 of a frame's type.
const LEVELS = { TRACE: 1, DEBUG: 2, INFO: 3, WARN: 4, ERROR: 5, FATAL: 6 };
const METHODS = {
  trace: "TRACE",
  debug: "DEBUG",
  info: "INFO",
  warn: "WARN",
  error: "ERROR",
  fatal: "FATAL",
};

// Which invocation a line belongs to. Outside any, the request id is what the official client of
// that Node.js version prints: "undefined" up to 22, "-" from 24 on.
const current = { requestId: undefined, tenantId: undefined };

function setCurrentInvocation(requestId, tenantId) {
  current.requestId = requestId;
  current.tenantId = tenantId;
}

// Replaces the console's methods; returns logError(title, error) for the runtime's own reports.
function patchConsole(environment, noRequestId) {
  current.requestId = noRequestId;
  const isJson = environment.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === "JSON";
  const write = chooseWriter(environment, isJson);
  const formatLine = isJson ? formatJson : formatText;
  const least = LEVELS[environment.AWS_LAMBDA_LOG_LEVEL?.toUpperCase()] ?? LEVELS.TRACE;
  for (const [method, level] of Object.entries(METHODS)) {
    console[method] =
      LEVELS[level] < least
        ? () => {}
        : (message, ...parameters) => {
            const now = new Date();
            write(level, now, formatLine(level, now.toISOString(), message, parameters));
          };
  }
  console.log = console.info;
  return (title, error) => {
    if (isJson) {
      console.error(intoError(error));
    } else {
      console.error(title, formatForLog(intoError(error)));
    }
  };
}

function chooseWriter(environment, isJson) {
  const text = environment[TELEMETRY_VARIABLE];
  // The function's children must not write into the middle of a frame.
  delete environment[TELEMETRY_VARIABLE];
  if (text === undefined) {
    // Carriage returns keep a message in one event where lines are the only frames.
    return (_level, _now, line) => process.stdout.write(line.replaceAll("\n", "\r") + "\n");
  }
  const descriptor = Number.parseInt(text, 10);
  return isJson
    ? (level, now, line) => writeFrame(descriptor, FRAME_JSON, level, now, line)
    : (level, now, line) => writeFrame(descriptor, FRAME_TEXT, level, now, line + "\n");
}

// Type, length, time in microseconds, text; all big-endian.
function writeFrame(descriptor, kind, level, now, text) {
  const length = Buffer.byteLength(text);
  const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + length);
  frame.writeUInt32BE((kind | (LEVELS[level] * 4)) >>> 0, 0);
  frame.writeUInt32BE(length, 4);
  frame.writeBigUInt64BE(BigInt(now.getTime()) * 1000n, 8);
  frame.write(text, FRAME_HEAD_BYTES);
  for (let done = 0; done < frame.length; ) {
    done += fs.writeSync(descriptor, frame, done);
  }
}

function formatText(level, time, message, parameters) {
  return `${time}\t${current.requestId}\t${level}\t${format(message, ...parameters)}`;
}

function formatJson(level, time, message, parameters) {
  const line = { timestamp: time, level, requestId: current.requestId };
  if (current.tenantId !== undefined) {
    line.tenantId = current.tenantId;
  }
  if (parameters.length === 0) {
    line.message = message;
    try {
      return JSON.stringify(line, (_key, value) => describeError(value));
    } catch {
      line.message = format(message);
      return JSON.stringify(line);
    }
  }
  line.message = format(message, ...parameters);
  const error = [message, ...parameters].find((value) => value instanceof Error);
  if (error !== undefined) {
    line.errorType = error.constructor?.name ?? "UnknownError";
    line.errorMessage = error.message;
    line.stackTrace = typeof error.stack === "string" ? error.stack.split("\n") : [];
  }
  return JSON.stringify(line);
}

function describeError(value) {
  if (!(value instanceof Error)) {
    return value;
  }
  const known = {
    errorType: value.constructor?.name ?? "UnknownError",
    errorMessage: value.message,
    stackTrace: typeof value.stack === "string" ? value.stack.split("\n") : value.stack,
  };
  return Object.assign(known, value);
}

module.exports = { patchConsole, setCurrentInvocation };
