"""``python -m pipeline`` is ``maskstream``."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main()
