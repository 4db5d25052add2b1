"""The chaos suite: rounds of batches while processes, broker, database and storage are taken away."""
