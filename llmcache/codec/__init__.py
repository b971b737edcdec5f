"""Values to bytes and back: the same object, its own copy, and no code from data."""
