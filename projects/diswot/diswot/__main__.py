"""``python -m diswot CONFIG``: see :mod:`diswot.search`."""
from .search import main

if __name__ == '__main__':
    main()
