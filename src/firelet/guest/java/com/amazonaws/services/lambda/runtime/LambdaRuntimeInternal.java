package com.amazonaws.services.lambda.runtime;

import java.nio.charset.StandardCharsets;

/** Where the runtime client leaves its logger, and the Log4j2 appender its wish. */
public final class LambdaRuntimeInternal {
  private static volatile LambdaLogger logger = new StandardOutput();
  private static volatile boolean useLog4jAppender;

  private LambdaRuntimeInternal() {}

  public static LambdaLogger getLogger() {
    return logger;
  }

  public static void setLogger(LambdaLogger chosen) {
    logger = chosen;
  }

  public static boolean getUseLog4jAppender() {
    return useLog4jAppender;
  }

  public static void setUseLog4jAppender(boolean wanted) {
    useLog4jAppender = wanted;
  }

  private static final class StandardOutput implements LambdaLogger {
    @Override
    public void log(String message) {
      System.out.print(message);
    }

    @Override
    public void log(byte[] message) {
      log(new String(message, StandardCharsets.UTF_8));
    }
  }
}
