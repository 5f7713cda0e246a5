package com.amazonaws.services.lambda.crac;

import java.lang.ref.WeakReference;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Before a snapshot the last registered is told first, after a restore the first. */
final class GlobalContext extends Context<Resource> {
  private final List<WeakReference<Resource>> resources = new ArrayList<>();

  @Override
  public synchronized void register(Resource resource) {
    resources.add(new WeakReference<>(resource));
  }

  @Override
  public synchronized void beforeCheckpoint(Context<? extends Resource> context)
      throws CheckpointException {
    List<Resource> alive = alive();
    Collections.reverse(alive);
    CheckpointException failed = new CheckpointException();
    for (Resource resource : alive) {
      try {
        resource.beforeCheckpoint(this);
      } catch (Exception thrown) {
        failed.addSuppressed(thrown);
      }
    }
    if (failed.getSuppressed().length > 0) {
      throw failed;
    }
  }

  @Override
  public synchronized void afterRestore(Context<? extends Resource> context)
      throws RestoreException {
    RestoreException failed = new RestoreException();
    for (Resource resource : alive()) {
      try {
        resource.afterRestore(this);
      } catch (Exception thrown) {
        failed.addSuppressed(thrown);
      }
    }
    if (failed.getSuppressed().length > 0) {
      throw failed;
    }
  }

  private List<Resource> alive() {
    List<Resource> alive = new ArrayList<>();
    for (WeakReference<Resource> reference : resources) {
      Resource resource = reference.get();
      if (resource != null) {
        alive.add(resource);
      }
    }
    return alive;
  }
}
