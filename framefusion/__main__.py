"""`python -m framefusion` is the command `framefusion`."""

from framefusion.cli import main

main()
