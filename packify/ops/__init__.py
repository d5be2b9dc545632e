"""One rule per operator, by family: how widths travel through it and how members are packed."""
