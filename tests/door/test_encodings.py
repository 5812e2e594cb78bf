"""The check that finds text without a named encoding, and the scripts that print."""

import re

import encodings_of_text as tool
import pytest

UNNAMED = [
    "path.read_text()", "path.write_text(text)", "open(path)", "open(path, 'w')", "path.open()", "path.open('a')",
    "path.open(mode='r+')", "open(path, newline='')", "os.fdopen(fd, 'w')", "os.fdopen(fd)", "io.TextIOWrapper(raw)",
    "subprocess.run(line, text=True)", "subprocess.run(line, text=True, **pipes)", "NamedTemporaryFile('w')",
    "Popen(line, universal_newlines=True)", "(root / 'a').read_text(errors='replace')",
]  # fmt: skip
NAMED = [
    "path.read_text('utf-8')", "path.read_text(encoding='utf-8')", "path.write_text(text, 'utf-8')",
    "open(path, 'rb')", "open(path, 'w', encoding='utf-8')", "path.open('rb')", "path.open(mode='wb')",
    "os.open(path, flags)", "Image.open(picture)", "archive.open(member)", "os.fdopen(fd, 'rb')", "open(path, **how)",
    "subprocess.run(line, encoding='utf-8')", "subprocess.run(line)", "NamedTemporaryFile()", "draw(text='x')",
]  # fmt: skip


@pytest.mark.parametrize("line", UNNAMED)
def test_text_without_an_encoding_is_found(line):
    assert [number for number, _ in tool.unnamed(f"x = 1\n{line}\n")] == [2]


@pytest.mark.parametrize("line", NAMED)
def test_bytes_and_named_encodings_are_left_alone(line):
    assert list(tool.unnamed(line)) == []


def test_the_command_names_file_and_line(tmp_path, capsys):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("path.read_bytes()  # →\n", encoding="utf-8")
    bad.write_text("\npath.read_text()\n", encoding="utf-8")
    assert tool.main([good, bad]) == 1
    assert capsys.readouterr().out == f'{bad}:2: read_text names no encoding: write encoding="utf-8"\n'
    assert tool.main([good]) == 0


def test_scripts_that_print_take_any_sign(root):
    """`minidiff` does so in its `main`; what runs by itself must, too. `open_lab.py` prints two constants."""
    scripts = [path for folder in ("benchmarks", "tools", "lectures/figures") for path in (root / folder).glob("*.py")]
    texts = {path.name: path.read_text(encoding="utf-8") for path in scripts}
    prints = {name: text for name, text in texts.items() if "print(" in text and "__main__" in text}
    assert len(prints) > 10
    silent = {name for name, text in prints.items() if not re.search(r"any_sign\(\)|reconfigure\(errors=", text)}
    assert silent == {"open_lab.py", "build_emoji.py"}
