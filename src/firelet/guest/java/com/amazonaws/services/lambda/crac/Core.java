package com.amazonaws.services.lambda.crac;

/**
 * Where functions register their hooks for SnapStart: directly, or through the library org.crac,
 * which finds this package by the system property org.crac.Core.Compat.
 */
public final class Core {
  private static final Context<Resource> GLOBAL = new GlobalContext();

  private Core() {}

  public static Context<Resource> getGlobalContext() {
    return GLOBAL;
  }

  /** Snapshots are the platform's to take. */
  public static void checkpointRestore() throws CheckpointException, RestoreException {
    throw new UnsupportedOperationException();
  }
}
