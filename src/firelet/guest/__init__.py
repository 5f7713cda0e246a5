"""What runs outside the worker process, on the function's interpreter (3.8+, stdlib only)."""
