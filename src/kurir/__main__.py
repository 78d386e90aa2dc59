"""`python -m kurir` is the `kurir` command."""

from kurir.cli import main

if __name__ == "__main__":
    main()
