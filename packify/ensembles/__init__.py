"""Recording -> network: the ensembles that packify makes."""
