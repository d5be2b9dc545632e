"""What runs: packed layers, helpers for the axis that carries the members, networks, initial weights."""
