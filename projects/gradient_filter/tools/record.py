"""Read and write the measured numbers in results/."""
import json
from pathlib import Path

RESULTS = Path(__file__).parents[1] / 'results'


def read(name: str) -> dict:
    """What was measured before; empty where nothing was.

    Args:
        name (str): Of the file, without its suffix.
    """
    file = RESULTS / f'{name}.json'
    return json.loads(file.read_text()) if file.is_file() else {}


def write(name: str, numbers: dict) -> None:
    """Keep what was measured.

    Args:
        name (str): Of the file, without its suffix.
        numbers (dict): All of it.
    """
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f'{name}.json'
    file.write_text(json.dumps(numbers, indent=1) + '\n')
