"""The benchmark: wylon on this machine, beside the minimal work of any client for an equal upstream."""
