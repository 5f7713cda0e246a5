package firelet.runtime;

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/**
 * The Runtime API over one kept-alive connection, HTTP/1.1 cut to size: answers must carry
 * Content-Length. An outcome and the question for the next event leave in one write.
 */
final class RuntimeApi implements AutoCloseable {
  private static final String PREFIX = "/2018-06-01/runtime/";

  /** An answer; of the header names, the case is lost. */
  static final class Answer {
    final int status;
    final Map<String, String> headers;
    final byte[] body;

    Answer(int status, Map<String, String> headers, byte[] body) {
      this.status = status;
      this.headers = headers;
      this.body = body;
    }

    String text() {
      return new String(body, StandardCharsets.UTF_8);
    }
  }

  private final String address;
  private final Socket socket;
  private final InputStream input;

  RuntimeApi(String address) throws IOException {
    int colon = address.lastIndexOf(':');
    this.address = address;
    socket = new Socket(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)));
    socket.setTcpNoDelay(true);
    input = new BufferedInputStream(socket.getInputStream(), 16_384);
  }

  /** Waits for an invocation. */
  Answer next() throws IOException {
    socket.getOutputStream().write(nextRequest());
    return expectEvent(read());
  }

  /** Reports the outcome of an invocation and waits for the next one. */
  Answer reportAndNext(Answer invocation, String outcome, byte[] body, String errorType)
      throws IOException {
    ByteArrayOutputStream both = new ByteArrayOutputStream(body.length + 512);
    both.writeBytes(outcomeRequest(invocation, outcome, body, errorType));
    both.writeBytes(nextRequest());
    both.writeTo(socket.getOutputStream());
    noteRefusal(read());
    return expectEvent(read());
  }

  /** Reports the outcome of an invocation after which this process ends. */
  void reportLast(Answer invocation, byte[] body, String errorType) throws IOException {
    socket.getOutputStream().write(outcomeRequest(invocation, "error", body, errorType));
    noteRefusal(read());
  }

  void reportInitError(byte[] body, String errorType) throws IOException {
    socket.getOutputStream().write(post("init/error", body, errorHeader(errorType)));
    noteRefusal(read());
  }

  void reportRestoreError(byte[] body, String errorType) throws IOException {
    socket.getOutputStream().write(post("restore/error", body, errorHeader(errorType)));
    noteRefusal(read());
  }

  /** Tells that a snapshot may be taken; returns in each environment that was made of it. */
  void restoreNext() throws IOException {
    socket.getOutputStream().write(get("restore/next"));
    Answer answer = read();
    if (answer.status != 200) {
      throw new IOException("Not restored: " + answer.status + " " + answer.text());
    }
  }

  @Override
  public void close() throws IOException {
    socket.close();
  }

  private byte[] nextRequest() {
    return get("invocation/next");
  }

  private byte[] get(String target) {
    String head = "GET " + PREFIX + target + " HTTP/1.1\r\nHost: " + address + "\r\n\r\n";
    return head.getBytes(StandardCharsets.US_ASCII);
  }

  private byte[] outcomeRequest(
      Answer invocation, String outcome, byte[] body, String errorType) {
    String id = invocation.headers.get("lambda-runtime-aws-request-id");
    String attempt = invocation.headers.get("lambda-runtime-invocation-id");
    String headers = errorHeader(errorType);
    if (attempt != null) {
      headers += "Lambda-Runtime-Invocation-Id: " + attempt + "\r\n";
    }
    return post("invocation/" + id + "/" + outcome, body, headers);
  }

  private byte[] post(String target, byte[] body, String headers) {
    String head =
        "POST " + PREFIX + target + " HTTP/1.1\r\nHost: " + address
            + "\r\nContent-Type: application/json\r\n" + headers
            + "Content-Length: " + body.length + "\r\n\r\n";
    ByteArrayOutputStream out = new ByteArrayOutputStream(head.length() + body.length);
    out.writeBytes(head.getBytes(StandardCharsets.ISO_8859_1));
    out.writeBytes(body);
    return out.toByteArray();
  }

  /** A class may be named anything; a header may not. */
  private static String errorHeader(String errorType) {
    boolean fits = errorType != null && errorType.chars().allMatch(c -> c >= ' ' && c <= '~');
    return fits ? "Lambda-Runtime-Function-Error-Type: " + errorType + "\r\n" : "";
  }

  /** A refused outcome (too large, too late) is the platform's to report; the runtime goes on. */
  private static void noteRefusal(Answer answer) {
    if (answer.status != 202) {
      System.err.println("The Runtime API refused an answer: " + answer.status + " " + answer.text());
    }
  }

  private static Answer expectEvent(Answer answer) throws IOException {
    if (answer.status != 200 || !answer.headers.containsKey("lambda-runtime-aws-request-id")) {
      throw new IOException("Failed to get next invocation, error " + answer.status);
    }
    return answer;
  }

  private Answer read() throws IOException {
    String[] first = line().split(" ", 3);
    if (first.length < 2 || !first[0].startsWith("HTTP/1.")) {
      throw new IOException("The Runtime API answered " + String.join(" ", first));
    }
    Map<String, String> headers = new HashMap<>();
    for (String line = line(); !line.isEmpty(); line = line()) {
      int colon = line.indexOf(':');
      if (colon > 0) {
        String name = line.substring(0, colon).toLowerCase(Locale.ROOT);
        headers.put(name, line.substring(colon + 1).trim());
      }
    }
    String length = headers.get("content-length");
    if (length == null) {
      throw new IOException("The Runtime API's answer has no Content-Length");
    }
    byte[] body = input.readNBytes(Integer.parseInt(length));
    if (body.length < Integer.parseInt(length)) {
      throw closed();
    }
    return new Answer(Integer.parseInt(first[1]), headers, body);
  }

  private String line() throws IOException {
    ByteArrayOutputStream line = new ByteArrayOutputStream(64);
    for (int c = input.read(); c != '\n'; c = input.read()) {
      if (c < 0) {
        throw closed();
      }
      if (c != '\r') {
        line.write(c);
      }
    }
    return line.toString(StandardCharsets.UTF_8);
  }

  private static IOException closed() {
    return new IOException("The Runtime API closed the connection");
  }
}
