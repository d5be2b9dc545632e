"""Layers of members and packed networks: their arithmetic and their module tree."""
