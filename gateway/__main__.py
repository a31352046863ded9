"""``python -m gateway`` is ``obs-hub``."""

from gateway.cli import main

if __name__ == "__main__":
    main()
