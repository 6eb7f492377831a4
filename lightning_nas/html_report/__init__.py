"""An experiment as one HTML file to mail around: no server, no network, no torch.

    write_report("runs/search", "search.html")

The file holds its charts, drawings and programs itself and opens from a disk. It also holds what the experiment's
store does: the command that started it, folders, the name of the machine.
"""

from __future__ import annotations

from pathlib import Path

FILE = "report.html"
"""Its name where a folder is given."""

LEADERS = 20
NETWORKS = 3


def write_report(directory: str | Path, path: str | Path | None = None, top: int = LEADERS) -> Path:
    """Writes the report of an experiment as it stands, whether it runs or has ended.

    Args:
        directory: the experiment's folder; it is only read.
        path: of the file, which is replaced as a whole, or of a folder, which gets `report.html`; the
            experiment's folder if None.
        top: how many of the best trials it lists; the networks of the first three are drawn.

    Returns:
        The file's path.

    Raises:
        StoreError: if there is no experiment, or its store is damaged or of a newer version.
        OSError: if the file cannot be written.
    """
    from lightning_nas.html_report.contents import read_contents
    from lightning_nas.html_report.rendering import render

    directory, path = Path(directory), Path(directory if path is None else path)
    text = render(read_contents(directory, top, NETWORKS))
    if path.is_dir():
        path /= FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
