"""Drivers: each lowers a spec and a host to a plan."""
