"""Plain values that every room shares: the spec, errors, the report, nested arguments."""
