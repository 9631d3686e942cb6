"""``python -m ekipl``: the same as the ``ekipl`` command."""

from ekipl.cli import main

main()
