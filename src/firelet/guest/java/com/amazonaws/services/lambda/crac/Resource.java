package com.amazonaws.services.lambda.crac;

/** What has something to do before a snapshot is taken, and after one was restored. */
public interface Resource {
  void afterRestore(Context<? extends Resource> context) throws Exception;

  void beforeCheckpoint(Context<? extends Resource> context) throws Exception;
}
