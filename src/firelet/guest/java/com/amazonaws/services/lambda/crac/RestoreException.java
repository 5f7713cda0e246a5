package com.amazonaws.services.lambda.crac;

/** What went wrong in one resource or several: each is a suppressed exception of this one. */
public class RestoreException extends Exception {
  private static final long serialVersionUID = 1L;

  public RestoreException() {}

  public RestoreException(String message) {
    super(message);
  }
}
