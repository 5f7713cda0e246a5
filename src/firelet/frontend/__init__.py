"""The AWS API over HTTP: server, router, one module per family of operations."""
