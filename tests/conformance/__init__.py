"""Conformance to the OCI runtime specification, of any runtime: VISCUM_RUNTIME names it."""
