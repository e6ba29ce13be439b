"""The edge of the world: only here is anything done.  Each handler does one kind of command."""
