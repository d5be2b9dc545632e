"""The command line: the only part of packify that prints. Commands import torch when they run, never when help or completion does."""

from packify.cli.app import app, main

__all__ = ["app", "main"]
