"""The laws of a packed network, measured."""
