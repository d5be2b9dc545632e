"""Slim: the widths of one member, found by walking the reference once."""
