"""Commands: each parses, calls, prints."""
