"""Where the bytes of files and plans are kept."""
