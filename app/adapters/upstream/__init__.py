"""The model servers: their HTTP client, and what they serve."""
