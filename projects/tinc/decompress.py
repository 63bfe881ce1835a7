"""The command `python -m tinc decompress`, also without PYTHONPATH."""
import sys

from tinc.command import main

if __name__ == '__main__':
    main(['decompress', *sys.argv[1:]])
