"""Tables in log messages."""
from io import StringIO

from rich.box import ASCII
from rich.console import Console
from rich.table import Table


def format_table(title: str, header: list[str], rows: list[list]) -> str:
    """Draw a table as plain text.

    Args:
        title (str): Line above the table.
        header (list[str]): Names of the columns.
        rows (list[list]): Cells, of any type.

    Returns:
        str: Several lines, beginning with a line break.
    """
    table = Table(*header, box=ASCII)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out = StringIO()
    # wide enough that nothing wraps: a log file has no width
    Console(
        file=out,
        force_jupyter=False,
        width=240,
        markup=False,
        highlight=False).print(table)
    return f'\n{title}\n{out.getvalue().rstrip()}'
