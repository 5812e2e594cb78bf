"""Every layout that a class arrives in, and everything a student could put into it to do harm."""

import hashlib
import os
import re
import socket
import stat
import struct
import threading
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.course.grading import collect as module
from minidiff.course.grading import names as names_module
from minidiff.course.grading.collect import MAX_BYTES, Submission, collect
from minidiff.course.grading.names import from_system, readable, safe_keys
from minidiff.course.grading.results import Student

posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX file system")
Members = Mapping[str, bytes]


def make_zip(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_folder(path: Path, members: Members) -> Path:
    for name, data in members.items():
        target = path / name
        if name.endswith("/"):
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return path


def patch(path: Path, member: str, offset: int, form: str, value: int) -> None:
    """Overwrite a field of the member's entry in the zip's directory."""
    data = bytearray(path.read_bytes())
    (at,) = (m.start() for m in re.finditer(b"PK\x01\x02", data) if data[m.start() + 46 :].startswith(member.encode()))
    struct.pack_into(form, data, at + offset, value)
    path.write_bytes(data)


def summary(submissions: list[Submission]) -> list[tuple[str, str, dict[str, str], str, bytes | None, str]]:
    return [(s.student.key, s.student.name, s.student.ids, s.source, s.data, s.problem) for s in submissions]


def outcome(path: Path) -> list[tuple[str, bytes | None, str]]:
    """(key, data, problem) of all, from a thread: should it wait for a FIFO, the test fails instead of hanging."""
    result: list[list[Submission]] = []
    thread = threading.Thread(target=lambda: result.append(collect(path)), daemon=True)
    thread.start()
    thread.join(30)
    assert result, "collect did not return"
    return [(s.student.key, s.data, s.problem) for s in result[0]]


@pytest.fixture(params=[make_folder, make_zip], ids=["folder", "zip"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Members], Path]:
    return lambda members: request.param(tmp_path / "class.zip", members)


def test_a_notebook_per_student(make: Callable[[Members], Path]) -> None:
    path = make({"roe.ipynb": b"R", "Doe Jane.IPYNB": b"D", "notes.txt": b"", ".hidden.ipynb": b"", "._roe.ipynb": b""})
    assert collect(path) == [
        Submission(Student("Doe_Jane", "Doe Jane"), "Doe Jane.IPYNB", b"D"),
        Submission(Student("roe", "roe"), "roe.ipynb", b"R"),
    ]


def test_a_folder_per_student(make: Callable[[Members], Path]) -> None:
    members = {
        "doe/hw1/x.ipynb": b"1",
        "roe/b.ipynb": b"3",
        "roe/a/a.ipynb": b"2",
        "poe/mine.zip": b"PK",
        "empty/": b"",
    }
    ignored = ["doe/hw1/.ipynb_checkpoints/x.ipynb", "doe/__MACOSX/x.ipynb", "doe/.x.ipynb", "__MACOSX/x.ipynb"]
    assert summary(collect(make(members | dict.fromkeys(ignored, b"no")))) == [
        ("doe", "doe", {}, "doe/hw1/x.ipynb", b"1", ""),
        ("empty", "empty", {}, "empty", None, "no notebook in this folder"),
        ("poe", "poe", {}, "poe", None, "no notebook in this folder"),
        ("roe", "roe", {}, "roe/a/a.ipynb", b"2", ""),
        ("roe", "roe", {}, "roe/b.ipynb", b"3", ""),
    ]


def test_canvas(make: Callable[[Members], Path]) -> None:
    names = ["doejane_7_90_hw.ipynb", "doejane_LATE_8_80_hw 2.ipynb", "roe_9_85_a_b.ipynb", "poe_5_1_hw.pdf"]
    assert summary(collect(make({name: name.encode() for name in names}))) == [
        ("doejane_7", "doejane", {"canvas": "7"}, names[0], names[0].encode(), ""),
        ("doejane_8", "doejane", {"canvas": "8"}, names[1], names[1].encode(), ""),
        ("poe_5", "poe", {"canvas": "5"}, names[3], None, "no notebook: this is another kind of file"),
        ("roe_9", "roe", {"canvas": "9"}, names[2], names[2].encode(), ""),
    ]


def test_of_a_file_handed_in_again_on_canvas_the_last_counts(make: Callable[[Members], Path]) -> None:
    again = {"doe_7_99_hw.ipynb": b"1", "doe_7_100_hw-1.ipynb": b"2", "roe_8_5_hw-10.ipynb": b"10"}
    others = {"roe_8_5_hw-9.ipynb": b"9", "roe_8_5_other.ipynb": b"o"}
    assert outcome(make(again | others)) == [("doe_7", b"2", ""), ("roe_8", b"10", ""), ("roe_8", b"o", "")]


def test_moodle(make: Callable[[Members], Path]) -> None:
    folders = {"José Roe_12_assignsubmission_file_/hw.ipynb": b"1", "José Roe_13_assignsubmission_file/hw.ipynb": b"2"}
    flat = {"Ann B_14_assignsubmission_file_hw.ipynb": b"3", "José Roe_12_assignsubmission_onlinetext_/a.html": b""}
    assert [row[:3] + row[4:] for row in summary(collect(make(folders | flat)))] == [
        ("Ann_B_14", "Ann B", {"moodle": "14"}, b"3", ""),
        ("José_Roe_12", "José Roe", {"moodle": "12"}, b"1", ""),
        ("José_Roe_13", "José Roe", {"moodle": "13"}, b"2", ""),
    ]


@pytest.mark.parametrize("top", ["", "assignment_5_export/"])
def test_gradescope(tmp_path: Path, top: str) -> None:
    members = {top + "submission_12/hw.ipynb": b"1", top + "submission_metadata.yml": b"---"}
    assert summary(collect(make_zip(tmp_path / "x.zip", members))) == [
        ("submission_12", "submission_12", {"gradescope": "12"}, top + "submission_12/hw.ipynb", b"1", "")
    ]


def test_a_zip_may_have_one_folder_around_all(tmp_path: Path) -> None:
    flat = make_zip(tmp_path / "a.zip", {"hw/doe.ipynb": b"1", "hw/roe_1_2_x.ipynb": b"2", "__MACOSX/hw/._doe": b""})
    assert outcome(flat) == [("doe", b"1", ""), ("roe_1", b"2", "")]
    folders = make_zip(tmp_path / "b.zip", {"hw/": b"", "hw/doe/a/x.ipynb": b"1", "hw/roe/": b"", "/bad.ipynb": b""})
    assert [(key, data) for key, data, _ in outcome(folders)] == [("bad", None), ("doe", b"1"), ("roe", None)]
    assert outcome(make_zip(tmp_path / "c.zip", {"doe/a.txt": b""})) == [("doe", None, "no notebook in this folder")]
    moodle = make_zip(tmp_path / "d.zip", {"Jane_1_assignsubmission_file_/hw.ipynb": b"1"})
    assert outcome(moodle) == [("Jane_1", b"1", "")]


def test_a_zip_that_a_student_handed_in_is_not_opened_but_seen(make: Callable[[Members], Path]) -> None:
    found = outcome(make({"doe.zip": b"PK", "roe.ipynb": b"1", "roe.zip": b"PK"}))
    assert found == [("doe", None, "no notebook: this is another kind of file"), ("roe", b"1", "")]


def test_names_that_macos_stores_as_utf8_without_saying_so(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"José.ipynb": b"1", "roe.ipynb": b"2"})
    patch(path, "José.ipynb", 8, "<H", 0)
    path.write_bytes(path.read_bytes().replace(b"PK\x03\x04\x14\x00\x00\x08", b"PK\x03\x04\x14\x00\x00\x00"))
    assert outcome(path) == [("José", b"1", ""), ("roe", b"2", "")]


@posix
@pytest.mark.parametrize("target", ["/etc/passwd", "../real.ipynb", "../real", "nowhere"])
@pytest.mark.parametrize("link", ["doe.ipynb", "doe", "doe/a/x.ipynb", "doe/a"])
def test_links_are_not_followed(tmp_path: Path, target: str, link: str) -> None:
    make_folder(tmp_path, {"real.ipynb": b"secret", "real/x.ipynb": b"secret", "class/roe/x.ipynb": b"1"})
    (tmp_path / "class" / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "class" / link).symlink_to(target if target[0] == "/" else tmp_path / "class" / target)
    problem = f"{link} is a link, not a file: not read"
    assert outcome(tmp_path / "class") == [("doe", None, problem), ("roe", b"1", "")]


@pytest.mark.parametrize(
    ("mode", "problem"), [(stat.S_IFLNK, "a link, not a file"), (stat.S_IFIFO, "not a regular file")]
)
def test_a_member_of_a_zip_that_is_no_file(tmp_path: Path, mode: int, problem: str) -> None:
    path = make_zip(tmp_path / "x.zip", {"doe/x.ipynb": b"/etc/passwd", "roe/x.ipynb": b"1"})
    patch(path, "doe/x.ipynb", 38, "<L", (mode | 0o777) << 16)
    assert outcome(path) == [("doe", None, f"doe/x.ipynb is {problem}: not read"), ("roe", b"1", "")]


@posix
def test_fifos_sockets_and_devices_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path, {"roe.ipynb": b"1"})
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    os.mkfifo("fifo.ipynb")
    expected = [("fifo", None, "fifo.ipynb is not a regular file: not read"), ("roe", b"1", "")]
    try:
        os.mknod("zero.ipynb", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        expected += [("zero", None, "zero.ipynb is not a regular file: not read")]
    except OSError:  # only root may
        pass
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock.ipynb")
        expected += [("sock", None, "sock.ipynb is not a regular file: not read")]
        assert outcome(tmp_path) == sorted(expected)


@posix
def test_a_file_that_changes_after_it_was_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path, {"class/doe.ipynb": b"1", "class/roe.ipynb": b"1", "secret": b"secret"})
    monkeypatch.setattr(module, "_submissions", lambda path, entries, do=module._submissions: do(path, swap(entries)))

    def swap(entries):
        listed = list(entries)
        for name in ("doe", "roe"):
            (tmp_path / f"class/{name}.ipynb").unlink()
        os.mkfifo(tmp_path / "class/doe.ipynb")
        (tmp_path / "class/roe.ipynb").symlink_to(tmp_path / "secret")
        return listed

    doe, roe = outcome(tmp_path / "class")
    assert doe == ("doe", None, "doe.ipynb was not read: it is not a regular file")
    assert roe[:2] == ("roe", None)
    assert roe[2].startswith("roe.ipynb was not read: ")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("../doe.ipynb", "doe"),
        ("doe/../../x.ipynb", "doe"),
        ("/doe/x.ipynb", "doe"),
        ("C:/doe/x.ipynb", "doe"),
        ("c:doe.ipynb", "doe"),
        ("..\\..\\doe.ipynb", "doe"),
        ("doe\\x.ipynb", "doe"),
        ("\\\\doe\\x.ipynb", "doe"),
        ("/doe/passwd", "doe"),
        ("..", "unnamed"),
    ],
)
def test_members_with_unsafe_names(tmp_path: Path, name: str, key: str) -> None:
    path = make_zip(tmp_path / "x.zip", {name: b"evil", "poe/x.ipynb": b"0", "roe/x.ipynb": b"1", "../": b""})
    found = outcome(path)
    (problem,) = (problem for found_key, data, problem in found if (found_key, data) == (key, None))
    assert problem.endswith(f" is named {name} in the zip, which is not a safe name: not read")
    assert [one for one in found if one[0] != key] == [("poe", b"0", ""), ("roe", b"1", "")]
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


def test_a_member_with_a_nul_in_its_name(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"doe.ipynb~.exe": b"1", "roe.ipynb": b"2"})
    path.write_bytes(path.read_bytes().replace(b"doe.ipynb~", b"doe.ipynb\0"))
    problem = "doe.ipynb.exe is named doe.ipynb.exe in the zip, which is not a safe name: not read"
    assert outcome(path) == [("doe.ipynb_.exe", None, problem), ("roe", b"2", "")]


def test_damaged_and_unsupported_members(tmp_path: Path) -> None:
    names = ["crc", "encrypted", "header", "liar", "lzma", "method"]
    path = make_zip(tmp_path / "x.zip", {f"{n}.ipynb": n.encode() * 1000 for n in names} | {"roe.ipynb": b"1"})
    patch(path, "crc.ipynb", 16, "<L", 1)
    patch(path, "encrypted.ipynb", 8, "<H", 1)
    patch(path, "header.ipynb", 42, "<L", 3)
    patch(path, "liar.ipynb", 24, "<L", 5)  # says that it unpacks to 5 bytes
    patch(path, "lzma.ipynb", 10, "<H", zipfile.ZIP_LZMA)
    patch(path, "method.ipynb", 10, "<H", 99)
    found = {key: problem for key, data, problem in outcome(path) if data is None}
    assert outcome(path)[-1] == ("roe", b"1", "")
    assert found == {
        "crc": "crc.ipynb was not read: Bad CRC-32 for file 'crc.ipynb'",
        "encrypted": "encrypted.ipynb was not read: it is encrypted",
        "header": "header.ipynb was not read: Bad magic number for file header",
        "liar": "liar.ipynb was not read: Bad CRC-32 for file 'liar.ipynb'",
        "lzma": "lzma.ipynb was not read: its compression (method 14) is not supported",
        "method": "method.ipynb was not read: its compression (method 99) is not supported",
    }


def test_a_stream_that_is_not_deflate(tmp_path: Path) -> None:
    content = os.urandom(5000)
    path = make_zip(tmp_path / "x.zip", {"doe.ipynb": content, "roe.ipynb": b"1"})
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("doe.ipynb").header_offset + 30 + len("doe.ipynb")
    data = bytearray(path.read_bytes())
    data[start] = 0xFF  # no such type of block
    path.write_bytes(data)
    doe, roe = outcome(path)
    assert (doe[:2], roe) == (("doe", None), ("roe", b"1", ""))
    assert doe[2].startswith("doe.ipynb was not read: ")


def test_what_is_too_large_is_not_read(make: Callable[[Members], Path]) -> None:
    path = make({"bomb.ipynb": bytes(MAX_BYTES + 2**20), "doe.ipynb": bytes(MAX_BYTES), "roe.ipynb": b"1"})
    problem = "bomb.ipynb was not read: it has 21 MiB, allowed are 20 MiB, and 80 MiB for all of a student's"
    assert outcome(path) == [("bomb", None, problem), ("doe", bytes(MAX_BYTES), ""), ("roe", b"1", "")]


def test_no_more_than_the_limit_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: (asked.append(n), read(self, n))[1])
    path = make_zip(tmp_path / "x.zip", {"bomb.ipynb": bytes(2 * MAX_BYTES), "doe.ipynb": b"1"})
    assert outcome(path)[0][1] is None
    assert asked == [MAX_BYTES + 1]  # doe's: the bomb is not even opened


def test_one_student_cannot_fill_the_memory(make: Callable[[Members], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    many = {f"doe/{i}.ipynb": b"12345678" for i in range(6)} | {f"roe/{i:03d}.ipynb": b"" for i in range(102)}
    found = outcome(make(many | {"zoe/x.ipynb": b"1"}))
    assert [data for key, data, _ in found if key == "doe"] == [b"12345678"] * 5 + [None]
    assert [data for key, data, _ in found if key == "roe"] == [b""] * 100 + [None]
    assert found[-2:] == [("roe", None, "roe has 2 more files to report: not read"), ("zoe", b"1", "")]


def test_deep_and_crowded_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 6)
    crowd = {f"poe/{i}.txt": b"" for i in range(7)}
    make_folder(tmp_path, {"doe/2/3/4/5/6/x.ipynb": b"1", "roe/2/3/4/5/6/7/x.ipynb": b"2", "zoe/x.ipynb": b"3"} | crowd)
    assert outcome(tmp_path) == [
        ("doe", b"1", ""),
        ("poe", None, "poe brings more than 6 entries: not searched"),
        ("roe", None, "roe/2/3/4/5/6/7 is more than 6 folders deep: not opened"),
        ("zoe", b"3", ""),
    ]
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    with pytest.raises(ValueError, match=r"submissions: got .*, which brings more than 3 entries"):
        collect(tmp_path)


def test_files_and_folders_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path, {"doe.ipynb": b"1", "poe/x.ipynb": b"2", "roe.ipynb": b"3"})

    def refuse(name: str, call: Callable) -> Callable:  # chmod would not stop root
        def guarded(path, *rest):
            if Path(path).name == name:
                raise PermissionError(13, "Permission denied")
            return call(path, *rest)

        return guarded

    monkeypatch.setattr(module.os, "open", refuse("doe.ipynb", os.open))
    monkeypatch.setattr(module.os, "scandir", refuse("poe", os.scandir))
    assert outcome(tmp_path) == [
        ("doe", None, "doe.ipynb was not read: Permission denied"),
        ("poe", None, "poe cannot be opened: Permission denied"),
        ("roe", b"3", ""),
    ]


def test_strange_names(tmp_path: Path) -> None:
    names = {"a\nb": "a_b", "\U0001f600": "_", "x\u202eypni.y": "x_ypni.y", "CON": "_CON", "-rf": "rf", "=1+1": "_1_1"}
    members = {f"{name}.ipynb": name.encode() for name in names}
    found = {s.data.decode(): s.student for s in collect(make_zip(tmp_path / "x.zip", members)) if s.data}
    assert {name: student.key for name, student in found.items()} == names
    assert [found[n].name for n in names] == ["ab", "\U0001f600", "xypni.y", "CON", "-rf", "=1+1"]
    (found,) = summary(collect(make_zip(tmp_path / "y.zip", {"é" * 300 + "/\n/x\u202e.ipynb": b"1"})))
    assert found == ("_", "_", {}, f"{'é' * 300}//x.ipynb", b"1", "")


@posix
def test_strange_names_in_a_folder(tmp_path: Path) -> None:
    long = "w" * 249
    make_folder(tmp_path, {f"{long}.ipynb": b"1", "a\nb\u202e\x1b.ipynb": b"2"})
    tail = hashlib.sha256(long.encode()).hexdigest()[:8]
    assert summary(collect(tmp_path)) == [
        ("a_b__", "ab", {}, "ab.ipynb", b"2", ""),
        (f"{'w' * 51}-{tail}", "w" * 200, {}, f"{long}.ipynb", b"1", ""),
    ]


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode there")
def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xe9.ipynb")).write_bytes(b"1")
    assert summary(collect(tmp_path)) == [("d_", "d", {}, "d.ipynb", b"1", "")]


def test_what_is_no_class_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, {"empty/": b"", "notes/a.txt": b"", "doe.ipynb": b"{}"})
    (tmp_path / "broken.zip").write_bytes(make_zip(tmp_path / "z.zip", {"a.ipynb": b"1"}).read_bytes()[:-30])
    make_zip(tmp_path / "empty.zip", {})
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for i in range(20_001):
            archive.writestr(f"{i}", b"")
    expected = r", expected a folder or a \.zip with the notebooks of a class$"
    for name, got in {
        "nowhere": r"nowhere \(.*\)",
        "doe.ipynb": r"doe\.ipynb \(File is not a zip file\)",
        "broken.zip": r"broken\.zip \(.*\)",
        "empty": "empty, which has no notebook and no student's folder in it",
        "notes": "notes, which has no notebook and no student's folder in it",
        "empty.zip": r"empty\.zip, which has no notebook and no student's folder in it",
    }.items():
        with pytest.raises(ValueError, match=f"^submissions: got .*{got}{expected}"):
            collect(tmp_path / name)
    with pytest.raises(ValueError, match="submissions: got a zip with 20,001 members, expected at most 20,000"):
        collect(tmp_path / "many.zip")


@posix
def test_a_fifo_is_no_class(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match=r"submissions: got .*fifo, which is neither, expected a folder"):
        collect(tmp_path / "fifo")


def test_keys() -> None:
    plain = {
        "Jane Doe": "Jane_Doe",
        "..x.": "x",
        "": "student",
        "nul.txt": "_nul.txt",
        "e\u0301": "\u00e9",
        "½a²": "_a_",
    }
    assert safe_keys(list(plain)) == plain
    keys = safe_keys(["Ann", "ann", "a b", "a_b", "stra\u00dfe", "STRASSE", "ok"])
    assert keys == {
        label: label if label == "ok" else f"{label.replace(' ', '_')}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
        for label in keys
    }
    first = safe_keys(["a b", "a_b"])  # a label that looks like another's key
    assert len(set(safe_keys(["a b", "a_b", first["a b"], first["a_b"]]).values())) == 4


def test_a_system_whose_file_names_are_ascii_gets_keys_that_it_can_write(monkeypatch: pytest.MonkeyPatch) -> None:
    assert safe_keys(["Zoë", "Zoé", "ann"]) == {"Zoë": "Zoë", "Zoé": "Zoé", "ann": "ann"}  # the control
    monkeypatch.setattr(names_module.os, "fsencode", lambda name: name.encode("ascii", "surrogateescape"))
    keys = safe_keys(["Zoë", "Zoé", "ann"])
    assert keys["ann"] == "ann"
    assert len(set(keys.values())) == 3
    assert all(re.fullmatch(r"Zo_-[0-9a-f]{8}", keys[name]) for name in ("Zoë", "Zoé"))
    assert from_system("Zo\udcc3\udcab") == "Zoë"
    assert from_system("Zo\udceb") == "Zo\udceb", "bytes that are no UTF-8 stay what they are"


tricky = st.lists(
    st.sampled_from(["a", "A", ".", "-", "_", " ", "CON", "nul", "\u0301", "e", "ß", "ss", "\u202e", "x" * 30])
)
names = st.one_of(st.text(st.characters(exclude_categories=())), tricky.map("".join))


@given(st.lists(names, unique=True))
def test_keys_are_always_safe_and_unique(labels: list[str]) -> None:
    keys = safe_keys(labels)
    assert list(keys) == labels
    assert len({key.casefold() for key in keys.values()}) == len({key.upper() for key in keys.values()}) == len(labels)
    for key in keys.values():
        assert 1 <= len(key) <= 60
        assert all(c in "-_." or unicodedata.category(c)[0] == "L" or c.isdecimal() for c in key)
        assert key == unicodedata.normalize("NFC", key)
        assert key[0] not in ".-"
        assert key[-1] != "."
        assert not re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", key.split(".")[0])
        key.encode()


@given(names)
def test_readable_text_has_nothing_hidden(text: str) -> None:
    shown = readable(text)
    assert len(shown) <= 200
    assert shown.isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown)
