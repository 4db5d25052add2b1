"""The broker, Redis or Valkey: connections, keys, faults, and the form of messages."""
