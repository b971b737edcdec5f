"""From a call to its key: who is called, with what, in canonical form, hashed."""
