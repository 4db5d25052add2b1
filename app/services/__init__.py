"""Use cases: the life of files and batches, told against the ports in `ports/`."""
