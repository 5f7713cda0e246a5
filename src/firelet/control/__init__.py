"""Which function, which version, whether it may run now and where."""
