"""The commands: each reads its input, calls the library, prints a table, and returns an exit code."""
