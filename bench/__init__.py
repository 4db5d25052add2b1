"""The benchmark: wylon on this machine beside the least that any client of the same upstream must do."""
