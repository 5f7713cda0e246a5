package com.amazonaws.services.lambda.crac;

/** What went wrong in one resource or several: each is a suppressed exception of this one. */
public class CheckpointException extends Exception {
  private static final long serialVersionUID = 1L;

  public CheckpointException() {}

  public CheckpointException(String message) {
    super(message);
  }
}
