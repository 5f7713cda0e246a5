"""Plain HTTP to functions: an HTTP request becomes an event, its result becomes the response."""
