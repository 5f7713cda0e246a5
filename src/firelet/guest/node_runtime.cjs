// firelet's Lambda runtime client for Node.js: runs in the sandbox as the main program, with the
// function's environment set (``node /var/runtime/node_runtime.cjs``, or .mjs, which is slower).
// Up to Node.js 22 it behaves as version 3 of AWS's client (callbacks, an empty event loop ends an
// invocation); from 24 on as version 4 (async handlers only, unhandled errors end the process).
"use strict";

const { RuntimeApi } = require("./node_client.cjs");
const { patchConsole, setCurrentInvocation } = require("./node_console.cjs");
const {
  CallbackHandlerDeprecated,
  JSONStringifyError,
  UnhandledPromiseRejection,
  errorDocument,
  xrayCause,
} = require("./node_errors.cjs");
const { loadHandler } = require("./node_handler.cjs");
const {
  HIGH_WATER_MARK,
  NOT_FINISHED,
  ResponseStream,
  installGlobals,
  isStreaming,
} = require("./node_streaming.cjs");

const FIRST_MODERN_MAJOR = 24;
const EXIT_UNHANDLED_REJECTION = 128;
const EXIT_UNCAUGHT_EXCEPTION = 129;

function isModernRuntime(environment) {
  const named = /^AWS_Lambda_nodejs(\d+)\.x$/.exec(environment.AWS_EXECUTION_ENV ?? "");
  return Number(named?.[1] ?? process.versions.node.split(".")[0]) >= FIRST_MODERN_MAJOR;
}

class Runtime {
  constructor(environment) {
    this.environment = environment;
    this.isModern = isModernRuntime(environment);
    this.logError = patchConsole(environment, this.isModern ? "-" : undefined);
    this.handler = null;
    // The invocation in progress; null during INIT and while an event is awaited.
    this.invocation = null;
    // Its response, if the handler streams.
    this.stream = null;
    this.isStreaming = false;
    this.isInitialised = false;
    this.api = new RuntimeApi(
      environment.AWS_LAMBDA_RUNTIME_API,
      (invocation) => this.serve(invocation),
      (error) => {
        process.stderr.write(`${error.stack}\n`);
        process.exit(1);
      },
    );
  }

  async start() {
    try {
      installGlobals(this.environment);
      this.handler = await loadHandler(this.environment, this.isModern);
      this.isStreaming = isStreaming(this.handler);
      if (this.isModern && !this.isStreaming) {
        refuseCallbackHandler(this.handler);
      }
    } catch (error) {
      this.failInit(this.isModern ? "Init Error" : "Uncaught Exception", error);
      return;
    }
    this.isInitialised = true;
    this.api.askNext();
  }

  failInit(title, error, code = this.isModern ? 1 : EXIT_UNCAUGHT_EXCEPTION) {
    this.logError(title, error);
    const document = errorDocument(error);
    this.api.postInitError(JSON.stringify(document), document.errorType, () => process.exit(code));
  }

  // What the process cannot survive: reported for the invocation in progress, or for INIT.
  die(title, error, code) {
    if (!this.isInitialised) {
      this.failInit(title, error, code);
      return;
    }
    this.logError(title, error);
    if (this.invocation === null) {
      // Between invocations there is nobody to tell, and the answer would wait for an event.
      process.exit(code);
    }
    const document = errorDocument(error);
    const { invocation, stream } = this;
    this.invocation = null;
    if (stream?.isOpen) {
      stream.fail(document, () => process.exit(code));
      return;
    }
    this.api.postFinalError(
      invocation,
      JSON.stringify(document),
      document.errorType,
      xrayCause(error),
      () => process.exit(code),
    );
  }

  serve(invocation) {
    this.invocation = invocation;
    const { headers } = invocation;
    const requestId = headers["lambda-runtime-aws-request-id"];
    setCurrentInvocation(requestId, headers["lambda-runtime-aws-tenant-id"]);
    if (headers["lambda-runtime-trace-id"]) {
      process.env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"];
    } else {
      delete process.env._X_AMZN_TRACE_ID;
    }
    if (this.isStreaming) {
      void this.serveStreaming(invocation);
    } else if (this.isModern) {
      void this.serveAsync(invocation);
    } else {
      this.serveWithCallbacks(invocation);
    }
  }

  async serveAsync(invocation) {
    try {
      const context = contextFields(invocation, this.environment);
      const result = await this.handler(JSON.parse(invocation.body), context);
      this.succeed(invocation, result);
    } catch (error) {
      this.fail(invocation, error);
    }
  }

  async serveStreaming(invocation) {
    const stream = new ResponseStream(this.api, invocation, this.handler[HIGH_WATER_MARK]);
    this.stream = stream;
    const context = this.isModern ? {} : { callbackWaitsForEmptyEventLoop: true };
    // If all that was to be done is done and the stream is not ended, it never will be.
    onEmptyLoop = () => stream.giveUp(new Error(NOT_FINISHED));
    try {
      Object.assign(context, contextFields(invocation, this.environment));
      const result = this.handler(JSON.parse(invocation.body), stream, context);
      if (typeof result?.then !== "function") {
        throw new Error("Streaming does not support non-async handlers.");
      }
      if ((await result) !== undefined) {
        console.warn("Streaming handlers ignore return values.");
      }
      await stream.completed;
    } catch (error) {
      this.failStreaming(invocation, stream, error);
      return;
    }
    this.endStreaming(context.callbackWaitsForEmptyEventLoop === true);
  }

  endStreaming(waitsForEmptyLoop) {
    this.invocation = null;
    this.stream = null;
    const askNext = () => this.api.askNext();
    onEmptyLoop = () => {};
    if (waitsForEmptyLoop) {
      onEmptyLoop = () => {
        onEmptyLoop = () => {};
        setImmediate(askNext);
      };
    } else {
      askNext();
    }
  }

  failStreaming(invocation, stream, error) {
    if (this.invocation !== invocation) {
      return; // the process is about to end
    }
    if (!stream.isOpen) {
      stream.discard();
      this.stream = null;
      onEmptyLoop = () => {};
      this.fail(invocation, error);
      return;
    }
    this.logError("Invoke Error", error);
    stream.fail(errorDocument(error), () => this.endStreaming(false));
  }

  serveWithCallbacks(invocation) {
    const outcome = new Outcome(this, invocation);
    onEmptyLoop = () => outcome.succeed(null);
    try {
      const context = Object.assign(outcome.context, contextFields(invocation, this.environment));
      const result = this.handler(JSON.parse(invocation.body), context, outcome.callback);
      if (typeof result?.then === "function") {
        result.then(context.succeed, context.fail).catch(context.fail);
      }
    } catch (error) {
      outcome.callback(error);
    }
  }

  // Errors: the result cannot be serialised; the invocation is still open then.
  succeed(invocation, result) {
    const body = this.serialize(result);
    this.invocation = null;
    this.api.postResponse(invocation, body);
  }

  fail(invocation, error) {
    this.logError("Invoke Error", error);
    const document = errorDocument(error);
    this.invocation = null;
    this.api.postError(
      invocation,
      JSON.stringify(document),
      document.errorType,
      xrayCause(error),
    );
  }

  serialize(result) {
    let text;
    try {
      text = JSON.stringify(result === undefined ? null : result);
    } catch {
      const message = "Unable to stringify response body";
      throw this.isModern ? new JSONStringifyError(message) : new Error(message);
    }
    if (text === undefined) {
      // A function or a symbol: the official client's complaint, from its native part.
      throw new TypeError("Wrong arguments");
    }
    return text;
  }
}

// What happens when the event loop runs empty: the default answer of an invocation whose handler
// has returned without one, or a result that was waiting for this.
let onEmptyLoop = () => {};

// How an invocation of a callback-style handler ends: the first of callback, context.done,
// context.succeed, context.fail, a settled promise or an empty event loop counts.
class Outcome {
  constructor(runtime, invocation) {
    this.runtime = runtime;
    this.invocation = invocation;
    this.isReported = false;
    const once = firstCallOnly();
    let waitsForEmptyLoop = true;
    this.callback = once((error, result) => {
      onEmptyLoop = () => {};
      if (error !== undefined && error !== null) {
        this.fail(error);
      } else if (waitsForEmptyLoop) {
        onEmptyLoop = () => setImmediate(() => this.succeed(result));
      } else {
        this.succeed(result);
      }
    });
    const done = (error, result) => {
      onEmptyLoop = () => {};
      if (error !== undefined && error !== null) {
        this.fail(error);
      } else {
        this.succeed(result);
      }
    };
    this.context = {
      get callbackWaitsForEmptyEventLoop() {
        return waitsForEmptyLoop;
      },
      set callbackWaitsForEmptyEventLoop(value) {
        waitsForEmptyLoop = value;
      },
      succeed: once((result) => done(null, result)),
      fail: once((error) => done(error ?? "handled")),
      done: once(done),
    };
  }

  succeed(result) {
    if (this.#isLate()) {
      return;
    }
    onEmptyLoop = () => {};
    this.runtime.succeed(this.invocation, result);
    this.isReported = true;
  }

  fail(error) {
    if (this.#isLate()) {
      return;
    }
    this.runtime.fail(this.invocation, error);
    this.isReported = true;
  }

  #isLate() {
    if (this.isReported) {
      console.error(
        "Invocation has already been reported as done. Cannot call complete more than once per " +
          "invocation.",
      );
    }
    return this.isReported;
  }
}

// Wraps functions of which only the first call, whichever it is of, has an effect. A call that
// throws does not count: the error it throws must still be able to end the invocation.
function firstCallOnly() {
  let isDone = false;
  return (action) =>
    (...values) => {
      if (!isDone) {
        action(...values);
        isDone = true;
      }
    };
}

function contextFields({ headers }, environment) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  return {
    functionVersion: environment.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: environment.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: environment.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: environment.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: environment.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: parseHeader(headers["lambda-runtime-client-context"], "ClientContext"),
    identity: parseHeader(headers["lambda-runtime-cognito-identity"], "CognitoIdentity"),
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    tenantId: headers["lambda-runtime-aws-tenant-id"],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

function parseHeader(text, name) {
  if (text === undefined) {
    return undefined;
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot parse ${name} as json: ${error}`);
  }
}

// Three parameters mean (event, context, callback), which AWS ended with Node.js 24.
function refuseCallbackHandler(handler) {
  if (handler.length < 3) {
    return;
  }
  throw new CallbackHandlerDeprecated(
    "ERROR: AWS Lambda has removed support for callback-based function handlers starting with " +
      "Node.js 24. You need to modify this function to use a supported handler signature to use " +
      "Node.js 24 or later. For more information see " +
      "https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.",
  );
}

const runtime = new Runtime(process.env);
process.on("beforeExit", () => onEmptyLoop());
if (!runtime.isModern) {
  process.on("uncaughtException", (error) => {
    runtime.die("Uncaught Exception", error, EXIT_UNCAUGHT_EXCEPTION);
  });
  process.on("unhandledRejection", (reason, promise) => {
    const error = new UnhandledPromiseRejection(reason, promise);
    runtime.die("Unhandled Promise Rejection", error, EXIT_UNHANDLED_REJECTION);
  });
}
void runtime.start();
