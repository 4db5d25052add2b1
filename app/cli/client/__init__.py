"""`wylon submit`, `list`, `show` and `cancel`: a client of the API."""
