"""Pack: M same-shaped members in one graph, each value with the members on a known axis."""
