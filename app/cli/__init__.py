"""The command `wylon`."""
