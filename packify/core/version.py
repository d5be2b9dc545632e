"""The version of packify, in the one place that packaging, artefacts and the command line read it from."""

__version__ = "0.1.0"
