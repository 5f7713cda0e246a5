package com.amazonaws.services.lambda.runtime.logging;

/** How much a line matters, the least first. */
public enum LogLevel {
  UNDEFINED,
  TRACE,
  DEBUG,
  INFO,
  WARN,
  ERROR,
  FATAL;

  /** By its name in any case. IllegalArgumentException for another word. */
  public static LogLevel fromString(String name) {
    return LogLevel.valueOf(name.toUpperCase(java.util.Locale.ROOT));
  }
}
