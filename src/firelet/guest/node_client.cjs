// The Runtime API as the Node.js client sees it: one kept-alive connection, HTTP/1.1 cut to size.
// Not a general HTTP client: answers must carry Content-Length. A response and the question for
// the next event leave in one write. The socket keeps the event loop alive only while an answer
// is awaited, so that the loop runs empty when the function's own work is done.
"use strict";

const net = require("node:net");

const PREFIX = "/2018-06-01/runtime/";
const HEAD_END = "\r\n\r\n";
const EMPTY = Buffer.alloc(0);
// Larger than this, the cause is left out of the request rather than cut into invalid JSON.
const MAX_XRAY_CAUSE_BYTES = 65536;

class RuntimeApi {
  // address: AWS_LAMBDA_RUNTIME_API, host:port. onInvocation({headers, body}) is called for each
  // event asked for; onBroken(error) when the Runtime API went away or broke the protocol.
  constructor(address, onInvocation, onBroken) {
    const colon = address.lastIndexOf(":");
    this.peer = { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
    this.host = ` HTTP/1.1\r\nHost: ${address}\r\n`;
    this.next = `GET ${PREFIX}invocation/next${this.host}\r\n`;
    this.onInvocation = onInvocation;
    this.onBroken = onBroken;
    this.socket = null;
    this.received = EMPTY;
    // Requests without an answer yet, in order: {text, onAnswer}; a streamed one has no text.
    this.unanswered = [];
    // Answers on this connection. Only one that had worked may go stale and be replaced.
    this.answers = 0;
  }

  askNext() {
    this.#send([this.#nextRequest()]);
  }

  postResponse(invocation, body) {
    this.#postAndAsk(invocation, "response", body, "");
  }

  postError(invocation, body, errorType, xrayCause) {
    this.#postAndAsk(invocation, "error", body, errorHeaders(errorType, xrayCause));
  }

  // The last word of this process about an invocation; onDone is called when it was taken.
  postFinalError(invocation, body, errorType, xrayCause, onDone) {
    const text = this.#outcome(invocation, "error", body, errorHeaders(errorType, xrayCause));
    this.#send([{ text, onAnswer: onDone }]);
  }

  // The connection and the head of an answer that is sent in chunks; whoever asked writes both.
  // onAnswered(isTaken) is called once, perhaps before all of it was sent.
  beginStream(invocation, contentType, onAnswered) {
    const onAnswer = (status, headers, body) => {
      reportRefusal(status, headers, body);
      onAnswered(status === 202);
    };
    this.unanswered.push({ text: null, onAnswer });
    const socket = this.socket ?? this.#connect();
    socket.ref();
    const head =
      `POST ${PREFIX}${target(invocation, "response")}${this.host}` +
      `Content-Type: ${contentType}\r\n` +
      "Lambda-Runtime-Function-Response-Mode: streaming\r\n" +
      "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n" +
      `Transfer-Encoding: chunked\r\n${attemptHeader(invocation)}\r\n`;
    return { socket, head };
  }

  postInitError(body, errorType, onDone) {
    const text = this.#post("init/error", body, errorHeaders(errorType, ""));
    this.#send([{ text, onAnswer: onDone }]);
  }

  #nextRequest() {
    return { text: this.next, onAnswer: (status, headers, body) => this.#take(status, headers, body) };
  }

  #take(status, headers, body) {
    if (status !== 200 || !headers["lambda-runtime-aws-request-id"]) {
      this.onBroken(new Error(`Failed to get next invocation, error ${status}`));
      return;
    }
    this.onInvocation({ headers, body: body.toString("utf8") });
  }

  #postAndAsk(invocation, outcome, body, headers) {
    const text = this.#outcome(invocation, outcome, body, headers);
    this.#send([{ text, onAnswer: reportRefusal }, this.#nextRequest()]);
  }

  #outcome(invocation, outcome, body, headers) {
    return this.#post(target(invocation, outcome), body, headers + attemptHeader(invocation));
  }

  #post(target, body, headers) {
    return (
      `POST ${PREFIX}${target}${this.host}Content-Type: application/json\r\n${headers}` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
    );
  }

  #send(requests) {
    this.unanswered.push(...requests);
    const text = requests.length === 1 ? requests[0].text : requests[0].text + requests[1].text;
    const socket = this.socket ?? this.#connect();
    socket.ref();
    socket.write(text, "utf8");
  }

  #connect() {
    const socket = net.connect({ ...this.peer, noDelay: true });
    this.socket = socket;
    this.received = EMPTY;
    this.answers = 0;
    socket.on("data", (data) => this.#onData(data));
    // What an error means is decided at the close that follows it.
    let cause = new Error("The Runtime API closed the connection");
    socket.on("error", (error) => {
      cause = error;
    });
    socket.on("close", () => {
      if (this.socket === socket) {
        this.#onClose(cause);
      }
    });
    return socket;
  }

  #onClose(cause) {
    this.socket = null;
    if (this.unanswered.length === 0) {
      return;
    }
    // What has been streamed cannot be sent again.
    const isStreaming = this.unanswered.some(({ text }) => text === null);
    if (isStreaming || this.answers === 0 || this.received.length > 0) {
      this.onBroken(cause);
      return;
    }
    this.#send(this.unanswered.splice(0));
  }

  #onData(data) {
    this.received = this.received.length === 0 ? data : Buffer.concat([this.received, data]);
    for (;;) {
      const answer = parseAnswer(this.received);
      if (answer === null) {
        return;
      }
      if (answer.problem !== undefined || this.unanswered.length === 0) {
        this.socket.destroy();
        this.onBroken(new Error(answer.problem ?? "The Runtime API answered without being asked"));
        return;
      }
      this.#onAnswer(answer);
    }
  }

  #onAnswer({ status, headers, body, rest }) {
    this.received = rest;
    this.answers += 1;
    const { onAnswer } = this.unanswered.shift();
    if (headers.connection?.toLowerCase() === "close") {
      const closed = this.socket;
      this.socket = null;
      closed.destroy();
      this.received = EMPTY;
      if (this.unanswered.length > 0) {
        this.#send(this.unanswered.splice(0));
      }
    } else if (this.unanswered.length === 0) {
      this.socket.unref();
    }
    onAnswer(status, headers, body);
  }
}

// One answer from the start of ``data``; null if it is not complete yet; {problem} if it is none.
function parseAnswer(data) {
  const end = data.indexOf(HEAD_END);
  if (end < 0) {
    return null;
  }
  const lines = data.toString("utf8", 0, end).split("\r\n");
  const first = /^HTTP\/1\.[01] (\d{3})/.exec(lines[0]);
  if (first === null) {
    return { problem: `The Runtime API answered ${lines[0].slice(0, 100)}` };
  }
  const headers = {};
  for (let index = 1; index < lines.length; index += 1) {
    const line = lines[index];
    const colon = line.indexOf(":");
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  if (!/^\d+$/.test(headers["content-length"] ?? "")) {
    return { problem: "The Runtime API's answer has no Content-Length" };
  }
  const start = end + HEAD_END.length;
  const stop = start + Number(headers["content-length"]);
  if (data.length < stop) {
    return null;
  }
  const body = data.subarray(start, stop);
  return { status: Number(first[1]), headers, body, rest: data.subarray(stop) };
}

function target({ headers }, outcome) {
  return `invocation/${encodeURIComponent(headers["lambda-runtime-aws-request-id"])}/${outcome}`;
}

function attemptHeader({ headers }) {
  const attempt = headers["lambda-runtime-invocation-id"];
  return attempt === undefined ? "" : `Lambda-Runtime-Invocation-Id: ${attempt}\r\n`;
}

// A refused answer (too large, too late) is the platform's to report; the runtime goes on.
function reportRefusal(status, _headers, body) {
  if (status !== 202) {
    process.stderr.write(
      `[ERROR] [${Date.now()}] LAMBDA_RUNTIME Failed to post handler success response. ` +
        `Http response code: ${status}. ${body.toString().trim()}\n`,
    );
  }
}

function errorHeaders(errorType, xrayCause) {
  let headers = "";
  // A class may be named anything; a header may not.
  if (/^[\x20-\x7e]+$/.test(errorType ?? "")) {
    headers += `Lambda-Runtime-Function-Error-Type: ${errorType}\r\n`;
  }
  // JSON has no raw control characters, so it is one line; text is sent as UTF-8.
  if (xrayCause && Buffer.byteLength(xrayCause) <= MAX_XRAY_CAUSE_BYTES) {
    headers += `Lambda-Runtime-Function-XRay-Error-Cause: ${xrayCause}\r\n`;
  }
  return headers;
}

module.exports = { RuntimeApi };
