package com.amazonaws.services.lambda.runtime;

/** The logger where no context is at hand. */
public final class LambdaRuntime {
  private LambdaRuntime() {}

  public static LambdaLogger getLogger() {
    return LambdaRuntimeInternal.getLogger();
  }
}
