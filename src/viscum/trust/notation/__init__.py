"""Signatures of the Notary Project (Notation): envelopes, trust stores and trust policies.

Written after the specification of the Notary Project, versions 1.0 and 1.1.
"""
