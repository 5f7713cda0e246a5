"""Ports and adapters for what must outlive the process: documents, blobs, queues."""
