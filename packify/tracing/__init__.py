"""Reference to fx graph: run once on tensors without data, every operator written down under one name."""

from packify.tracing.arguments import with_concrete_args
from packify.tracing.trace import KEPT_WHOLE, MODES, Traced, trace

__all__ = ["KEPT_WHOLE", "MODES", "Traced", "trace", "with_concrete_args"]
