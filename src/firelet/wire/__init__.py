"""Bytes to messages and back: HTTP/1.1 and AWS's protocols."""
