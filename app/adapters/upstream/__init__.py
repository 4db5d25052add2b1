"""The model servers: the HTTP client, and the lists of models."""
