"""The command `python -m tinc compress`, also without PYTHONPATH."""
import sys

from tinc.command import main

if __name__ == '__main__':
    main(['compress', *sys.argv[1:]])
