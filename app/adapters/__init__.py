"""A module or package per outside system: database, blobs, upstream, queue, clock."""
