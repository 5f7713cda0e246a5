"""The firelet command, one module per subcommand."""
