"""Where reference networks come from: timm, torchvision, `path/to/file.py:factory` and `package.module:factory`.

The only part of packify that imports timm or torchvision, and only when a name asks for it. Nothing here ever fetches weights.
"""

from packify.sources.arguments import parse_argument, parse_input_size
from packify.sources.names import label, parse_name
from packify.sources.registries import import_library
from packify.sources.resolving import load_reference, rebuild, resolve
from packify.sources.source import Reference, Source

__all__ = [
    "Reference",
    "Source",
    "import_library",
    "label",
    "load_reference",
    "parse_argument",
    "parse_input_size",
    "parse_name",
    "rebuild",
    "resolve",
]
