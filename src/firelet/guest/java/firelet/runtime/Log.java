package firelet.runtime;

import com.amazonaws.services.lambda.runtime.LambdaLogger;
import com.amazonaws.services.lambda.runtime.logging.LogLevel;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.LinkedHashMap;
import java.util.Map;

/** The function's logger: text as it is given, or one JSON object for each message. */
final class Log implements LambdaLogger {
  private final PrintStream out;
  private final boolean isJson;
  private final LogLevel least;
  private volatile String requestId;

  Log(PrintStream out, Map<String, String> environment) {
    this.out = out;
    isJson = "JSON".equals(environment.get("AWS_LAMBDA_LOG_FORMAT"));
    String level = environment.get("AWS_LAMBDA_LOG_LEVEL");
    least = level == null ? LogLevel.UNDEFINED : LogLevel.fromString(level);
  }

  void setRequestId(String id) {
    requestId = id;
  }

  @Override
  public void log(String message) {
    log(message, LogLevel.UNDEFINED);
  }

  @Override
  public void log(byte[] message) {
    log(message, LogLevel.UNDEFINED);
  }

  @Override
  public void log(byte[] message, LogLevel level) {
    log(new String(message, StandardCharsets.UTF_8), level);
  }

  @Override
  public void log(String message, LogLevel level) {
    if (level != LogLevel.UNDEFINED && level.ordinal() < least.ordinal()) {
      return;
    }
    if (!isJson) {
      boolean hasLevel = level != LogLevel.UNDEFINED;
      out.print(hasLevel ? "[" + level + "] " + message : message);
    } else {
      Map<String, Object> line = new LinkedHashMap<>();
      line.put("timestamp", Instant.now().truncatedTo(ChronoUnit.MILLIS).toString());
      line.put("level", level.name());
      line.put("message", message);
      line.put("AWSRequestId", requestId);
      out.print(Writer.toJson(line) + "\n");
    }
    out.flush();
  }
}
