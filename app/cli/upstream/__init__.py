"""A stand-in for an OpenAI-compatible model server, with latency, capacity and faults as asked for."""
