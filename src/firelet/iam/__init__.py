"""Identity: credentials, accounts, roles and policies."""
