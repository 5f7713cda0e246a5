package com.amazonaws.services.lambda.runtime;

/** A handler of values: JSON becomes {@code I}, and {@code O} becomes JSON. */
public interface RequestHandler<I, O> {
  O handleRequest(I input, Context context);
}
