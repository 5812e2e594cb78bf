"""How the tests of several chapters read a lecture."""


def table_rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table that has this heading, a row each."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|") and heading in line)
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows
