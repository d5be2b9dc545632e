"""The ways of running a packed network over the same parameters, and the choice among them."""
