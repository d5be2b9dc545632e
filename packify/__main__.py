"""`python -m packify` is the `packify` program."""

from packify.cli import main

main()
