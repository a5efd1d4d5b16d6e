"""Notary v1 (Docker Content Trust), read only: what a server says a tag is, and how it shows it.

Its metadata is a dialect of The Update Framework that the library `tuf` does not read: other
names of keys and signatures, and snapshots without versions.
"""
