"""``python -m obs_hub`` is ``obs-hub``."""

from obs_hub import main

if __name__ == "__main__":
    main()
