"""The broker, Redis or Valkey: its connections, its keys, its faults, and the form of its messages."""
