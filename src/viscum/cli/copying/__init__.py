"""Commands that carry files between machines and their host."""
