"""``python -m fedcomp``: the command line."""

from fedcomp.cli import main

if __name__ == "__main__":
    main()
