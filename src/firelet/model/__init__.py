"""Values and rules of the domain. Standard library only: no asyncio, no sockets, no files."""
