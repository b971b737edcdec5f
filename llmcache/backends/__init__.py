"""Where entries are kept: bytes in, bytes out."""
