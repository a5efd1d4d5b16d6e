"""Images: what registries and archives hold, stored by content, unpacked layer by layer.

Nothing here starts a machine. Every byte that comes in is taken for an enemy's.
"""
