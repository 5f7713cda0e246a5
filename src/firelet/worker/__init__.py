"""One node: sandboxes in their slots, code on disk, zygotes."""
