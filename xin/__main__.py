"""`python -m xin` is the `xin` command."""

from xin.cli.entry import main

if __name__ == "__main__":
    main()
