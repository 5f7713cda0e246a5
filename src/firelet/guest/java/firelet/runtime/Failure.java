package firelet.runtime;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What was thrown, as AWS's Java runtime tells it: message, type, stack trace, cause. */
final class Failure {
  /** A cause of a cause of a cause … is not followed for ever. */
  private static final int MAX_CAUSES = 10;

  final String type;
  private final Throwable thrown;

  Failure(Throwable thrown) {
    this.thrown = thrown;
    if (thrown instanceof Handlers.NotFound) {
      type = ((Handlers.NotFound) thrown).type;
    } else if (thrown instanceof Handlers.PayloadError) {
      type = RuntimeException.class.getName();
    } else {
      type = thrown.getClass().getName();
    }
  }

  byte[] json() {
    Map<String, Object> members = members(thrown, MAX_CAUSES);
    members.put("errorType", type);
    if (thrown instanceof Handlers.NotFound) {
      members.remove("stackTrace");
    }
    return Writer.toJson(members).getBytes(StandardCharsets.UTF_8);
  }

  /** For the log. */
  String text() {
    if (thrown instanceof Handlers.NotFound) {
      return thrown.getMessage() + ": " + type + "\n";
    }
    StringWriter text = new StringWriter();
    thrown.printStackTrace(new PrintWriter(text, true));
    return text.toString();
  }

  private static Map<String, Object> members(Throwable thrown, int causes) {
    Map<String, Object> members = new LinkedHashMap<>();
    members.put("errorMessage", thrown.getMessage());
    members.put("errorType", thrown.getClass().getName());
    List<String> trace = new ArrayList<>();
    for (StackTraceElement element : thrown.getStackTrace()) {
      if (isOurs(element)) {
        break;
      }
      trace.add(element.toString());
    }
    members.put("stackTrace", trace);
    if (thrown.getMessage() == null) {
      members.remove("errorMessage");
    }
    if (thrown.getCause() != null && causes > 0) {
      members.put("cause", members(thrown.getCause(), causes - 1));
    }
    return members;
  }

  /** Below the handler's own frames come those of reflection and of this runtime. */
  private static boolean isOurs(StackTraceElement element) {
    String name = element.getClassName();
    return name.startsWith("firelet.runtime.")
        || name.startsWith("jdk.internal.reflect.")
        || name.startsWith("java.lang.reflect.");
  }
}
