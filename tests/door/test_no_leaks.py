"""No file in git carries a trace of the machine it was written on."""

import re
import subprocess

FORBIDDEN = {
    "a home folder": re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+)/"),
    "a private work folder": re.compile(r"(?<![\w.])/(?:work|opt|mnt)/\w+"),
    "a package index of one's own": re.compile(r"--(?:extra-)?index-url|--find-link[s]|^\s*-(?:i|f) +\S", re.MULTILINE),
    "a requirement that is a path": re.compile(r"^-e /|@ file:/{2}", re.MULTILINE),
    "a private key or token": re.compile(r"BEGIN [A-Z ]*PRIVATE KEY|gh[pousr]_\w{30}|hf_\w{30}"),
}


def offences(text: str) -> list[str]:
    return [f"{what}: {found[0]!r}" for what, pattern in FORBIDDEN.items() if (found := pattern.search(text))]


def test_the_patterns_find_what_they_are_for():
    assert offences("data = '/home/" + "ada/data'")
    assert offences("see /" + "work/main/x")
    assert offences("pip install --index" + "-url https://example.org x")
    assert offences("-e " + "/somewhere/minidiff")
    assert not offences("alpha/opt/beta, https://a.org/home/x/, tests/work/here, /usr/share/data, ~/.cache")


def test_no_tracked_file_names_this_machine(root):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, encoding="utf-8")
    if listed.returncode:  # a copy without git history, such as a downloaded archive
        files = [p for p in root.rglob("*") if p.is_file() and not set(p.parts) & {".venv", "data", "runs"}]
    else:
        files = [root / name for name in listed.stdout.split("\0") if name]
    assert len(files) > 20
    found = {}
    for file in files:
        content = file.read_bytes() if file.exists() else b""
        if b"\0" not in content and (bad := offences(content.decode(errors="replace"))):
            found[str(file.relative_to(root))] = bad
    assert not found
