"""wylon: an OpenAI-compatible Batch API in front of model servers you run yourself."""
