"""One module or package for each system outside: database, blobs, upstream, queue, clock."""
