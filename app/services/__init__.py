"""Use cases: what happens to files and batches, told against the ports in `ports.py`."""
