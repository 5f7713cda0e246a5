package com.amazonaws.services.lambda.runtime.logging;

/** How lines are written. */
public enum LogFormat {
  JSON,
  TEXT;

  /** By its name in any case. IllegalArgumentException for another word. */
  public static LogFormat fromString(String name) {
    return LogFormat.valueOf(name.toUpperCase(java.util.Locale.ROOT));
  }
}
