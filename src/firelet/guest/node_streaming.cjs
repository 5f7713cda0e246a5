// Streamed responses of Node.js functions: the global ``awslambda``, and the stream that a handler
// made with ``awslambda.streamifyResponse`` writes to. Chunks leave as they are written; a write
// calls back when the kernel has taken it, which is what holds ``pipeline`` up while the caller is
// slow. Source: AWS guide, "Writing response streaming-enabled Lambda functions", and the observed
// behaviour of the official client, names and sentences word for word.
"use strict";

const { Writable } = require("node:stream");
const { InvalidStreamingOperation, MalformedStreamingHandler } = require("./node_errors.cjs");

const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
const HIGH_WATER_MARK = Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark");
const STREAM_RESPONSE = "response";
const HTTP_INTEGRATION = "application/vnd.awslambda.http-integration-response";
const OCTET_STREAM = "application/octet-stream";
const PRELUDE_END_BYTES = 8;
const NOT_FINISHED = "Response stream is not finished.";

function streamifyResponse(handler, options) {
  handler[STREAMING] = STREAM_RESPONSE;
  if (typeof options?.highWaterMark === "number") {
    handler[HIGH_WATER_MARK] = parseInt(options.highWaterMark, 10);
  }
  return handler;
}

const HttpResponseStream = {
  // Status, headers and cookies of an HTTP answer, which are sent before the first write.
  from(stream, prelude) {
    stream.setContentType(HTTP_INTEGRATION);
    const text = JSON.stringify(prelude);
    stream._onBeforeFirstWrite = (write) => {
      write(text);
      write(new Uint8Array(PRELUDE_END_BYTES));
    };
    return stream;
  },
};

function installGlobals(environment) {
  if (!["1", "true"].includes(environment.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA)) {
    globalThis.awslambda = { ...globalThis.awslambda, streamifyResponse, HttpResponseStream };
  }
}

// Errors: MalformedStreamingHandler.
function isStreaming(handler) {
  const kind = handler[STREAMING];
  if (!kind) {
    return false;
  }
  if (kind !== STREAM_RESPONSE) {
    throw new MalformedStreamingHandler("Only response streaming is supported.");
  }
  return true;
}

// One response. ``completed`` resolves when the Runtime API has taken all of it, and rejects when
// the stream fails or is given up before.
class ResponseStream extends Writable {
  #api;
  #invocation;
  #contentType = OCTET_STREAM;
  #socket = null;
  #hasWritten = false;
  #trailers = "";
  #onAnswered = () => {};

  constructor(api, invocation, highWaterMark) {
    super({ highWaterMark });
    this.#api = api;
    this.#invocation = invocation;
    // Whether its end, good or bad, has been sent, or is not wanted.
    this.isSettled = false;
    this._onBeforeFirstWrite = null;
    this.completed = new Promise((resolve, reject) => {
      this.complete = resolve;
      this.giveUp = reject;
    });
    // Whoever waits for it may come later.
    this.completed.catch(() => {});
    this.on("error", this.giveUp);
    this.on("close", () => {
      if (!this.writableFinished) {
        this.giveUp(new Error(NOT_FINISHED));
      }
    });
  }

  // Whether some of it has been sent: an error can only be told at its end from then on.
  get isOpen() {
    return this.#socket !== null;
  }

  setContentType(contentType) {
    if (this.#hasWritten) {
      throw new InvalidStreamingOperation("Cannot set content-type, too late.");
    }
    this.#contentType = contentType;
  }

  write(chunk, encoding, callback) {
    this.#beforeFirstWrite();
    const isRaw = typeof chunk === "string" || chunk instanceof Uint8Array;
    return super.write(isRaw ? chunk : JSON.stringify(chunk), encoding, callback);
  }

  end(chunk, encoding, callback) {
    if (typeof chunk === "function" || chunk === undefined || chunk === null) {
      this.#beforeFirstWrite();
      return super.end(typeof chunk === "function" ? chunk : callback);
    }
    if (typeof encoding === "function") {
      this.write(chunk);
      return super.end(encoding);
    }
    this.write(chunk, encoding);
    return super.end(callback);
  }

  #beforeFirstWrite() {
    if (!this.#hasWritten) {
      this.#hasWritten = true;
      this._onBeforeFirstWrite?.((chunk) => super.write(chunk));
    }
  }

  _write(chunk, _encoding, callback) {
    this.#send([chunk], chunk.length, callback);
  }

  _writev(entries, callback) {
    const chunks = entries.map(({ chunk }) => chunk);
    const size = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    this.#send(chunks, size, callback);
  }

  _final(callback) {
    this.#settle(callback);
  }

  // Ends it with an error document, behind what was written before. onAnswered is called when that
  // has been taken, or at once if there is nobody to tell any more.
  fail(document, onAnswered) {
    if (this.isSettled) {
      onAnswered();
      return;
    }
    this.#onAnswered = onAnswered;
    const text = Buffer.from(JSON.stringify(document)).toString("base64");
    this.#trailers = `Lambda-Runtime-Function-Error-Body: ${text}\r\n`;
    // A class may be named anything; a header may not.
    if (/^[\x20-\x7e]+$/.test(document.errorType ?? "")) {
      this.#trailers += `Lambda-Runtime-Function-Error-Type: ${document.errorType}\r\n`;
    }
    if (this.destroyed) {
      this.#settle(() => {}); // what it still held is gone
    } else if (!this.writableEnded) {
      super.end();
    }
  }

  #settle(callback) {
    if (this.isSettled) {
      callback();
      return;
    }
    this.isSettled = true;
    this.#open((head, socket) => {
      socket.write(`${head}0\r\n${this.#trailers}\r\n`, "latin1", callback);
    });
  }

  // Nothing has been sent, and nothing will be.
  discard() {
    this.isSettled = true;
    this.destroy();
  }

  #send(chunks, size, callback) {
    if (size === 0 || this.isSettled) {
      callback();
      return;
    }
    this.#open((head, socket) => {
      socket.cork();
      socket.write(`${head}${size.toString(16)}\r\n`, "latin1");
      for (const chunk of chunks) {
        socket.write(chunk);
      }
      socket.write("\r\n", "latin1", callback);
      socket.uncork();
    });
  }

  // Calls write(head, socket); the head is empty except for the first time.
  #open(write) {
    let head = "";
    if (this.#socket === null) {
      const begun = this.#api.beginStream(this.#invocation, this.#contentType, (isTaken) => {
        this.isSettled = true;
        if (isTaken) {
          this.complete();
        } else {
          // Too large, or too late: the platform has told the caller already.
          this.destroy(new Error("The response stream has been refused."));
        }
        this.#onAnswered();
      });
      this.#socket = begun.socket;
      head = begun.head;
    }
    write(head, this.#socket);
  }
}

module.exports = { HIGH_WATER_MARK, NOT_FINISHED, ResponseStream, installGlobals, isStreaming };
