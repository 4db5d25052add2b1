"""The rules of batches: pure values and functions, no input or output and no clock."""
