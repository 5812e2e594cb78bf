"""A class of cheats: none earns a mark, none harms another exercise or student, none reaches the machine.

Grading them all takes minutes. `make test` has a sample, one of each kind; the others, marked `stress`, are graded in
`make stress`. The class consists of those that the tests of this run are about.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # pytest imports test modules without their folder on the path

from attacks import ATTACKS, DEAD, ERROR, FORGERIES, SAMPLE, TAMPERED, WRONG
from classroom import CHAPTER, EXERCISES, FULL, FUNCTIONS, ROOT, as_bytes, master, solutions, solved

from minidiff.course.diagnosis import judge, try_out
from minidiff.course.grading import sandbox, session, shortcuts
from minidiff.course.grading.batch import Books, open_batch, read_secret
from minidiff.course.grading.collect import Submission
from minidiff.course.grading.mark import Marker, Rules
from minidiff.course.grading.results import Item, Result, State, Student
from minidiff.course.grading.sandbox import Limits, Unsandboxed
from minidiff.course.inside import wire

SECONDS = 10
# The odd size of /tmp tells this run's sandboxes from those of others on this machine.
LIMITS = Limits(seconds=SECONDS, memory=2**30, scratch=64 * 2**20 - 4096 * (os.getpid() % 4096))
MARK = f"LEFT-OVER-{os.getpid()}-{secrets.token_hex(4)}"
GRADER_MEMORY = 1.2 * 2**30  # bytes that a process of the grader may take on top of PyTorch


def works() -> bool:
    try:
        return bool(sandbox.find_bwrap())
    except Unsandboxed:
        return False


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not works(), reason="needs a sandbox that works")]


# --- the class --------------------------------------------------------------------------------------------------------


@dataclass
class Places:
    """What the attacks are after; all of it outside the sandbox. `canaries`: texts that must not come out of it."""

    folder: Path
    canaries: dict[str, str]
    port: int = 0

    out = property(lambda self: self.folder / "out")
    submissions = property(lambda self: self.folder / "submissions")
    sentinel = property(lambda self: self.folder / "sentinel.txt")
    socket = property(lambda self: self.folder / "s")

    def fill(self, source: str) -> str:
        names = {"SUBMISSIONS": self.submissions, "OUT": self.out, "SENTINEL": self.sentinel, "ROOT": ROOT}
        names |= {"PORT": self.port, "UNIX-SOCKET": self.socket, "ABSTRACT-SOCKET": f"minidiff-{MARK}"}
        kept = source.replace("LEFT-OVER", MARK)
        for name in ("UNIX-SOCKET", "ABSTRACT-SOCKET", "SUBMISSIONS", "SENTINEL", "ROOT", "PORT", "OUT"):
            for before in ('"', "'", " ", "\0", ", ", "}"):
                kept = kept.replace(before + name, before + str(names[name]))
        return kept


@dataclass
class Graded:
    """What came of the class. `books`: {student: {exercise: attack}}, `where`: {attack: (student, exercise)}."""

    places: Places
    books: dict[str, dict[str, str]] = field(default_factory=dict)
    where: dict[str, tuple[str, str]] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    raised: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    peak: int = 0
    secret: bytes = b""

    def item(self, student: str, exercise: str) -> Item:
        if student in self.raised:
            pytest.fail(f"the grader itself raised {self.raised[student]}")
        return next(item for item in self.results[student].items if item.id == exercise)


def arranged(names: list[str]) -> tuple[dict[str, dict[str, str]], dict[str, tuple[str, str]]]:
    """These attacks, and one honest answer beside: {student: {exercise: attack}}, {attack: (student, exercise)}."""
    books: dict[str, dict[str, str]] = {}
    where = {}
    # The ones that have a place come first, those that may bring the grader down last.
    order = sorted(names, key=lambda name: (ATTACKS[name].alone, not ATTACKS[name].exercise))
    for name in order:
        attack = ATTACKS[name]
        for student in [*books, f"cheat-{len(books):03}"]:
            taken = books.get(student, {})
            free = [id for id in EXERCISES if id not in taken and attack.exercise in ("", id)]
            if not taken or (
                free and len(taken) < len(EXERCISES) - 1 and not attack.alone and not ATTACKS[min(taken.values())].alone
            ):
                # Honest answers are as often behind the attacks as before them.
                id = free[0] if len(books) % 2 else free[-1]
                books.setdefault(student, {})[id] = name
                where[name] = (student, id)
                break
    return books, where


SEEDS = "read: the seed of the inputs"  # has a test of its own
FORGED = {name: f"forged-{i:02}" for i, name in enumerate(FORGERIES)}
HONEST = ["honest-1", "honest-2"]
ODD = {"=cmd|' C calc'!A0": "_cmd", "new\nline": "new_line", "shadow": "shadow"}


def sampled(names) -> list:
    """As parameters of a test, the ones outside the sample marked `stress`."""
    return [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.stress) for name in names]


# A test about the class as a whole belongs to both runs.
in_both_runs = pytest.mark.parametrize("run", ["sample", pytest.param("stress", marks=pytest.mark.stress)])


def asked_about(session: pytest.Session, test) -> list[str]:
    """The names with which this run calls a test."""
    return [item.callspec.params["name"] for item in session.items if getattr(item, "function", None) is test]


def build_class(places: Places, books: dict[str, dict[str, str]], forgeries: list[str]) -> None:
    folder = places.submissions
    folder.mkdir()
    for name in HONEST:
        document = solved()
        document["metadata"]["note"] = places.canaries["student"]
        (folder / f"{name}.ipynb").write_bytes(as_bytes(document))
    for student, taken in books.items():
        answers = {
            id: f"{places.fill(ATTACKS[name].source)}\n\n{FUNCTIONS[id]} = answer\n" for id, name in taken.items()
        }
        (folder / f"{student}.ipynb").write_bytes(as_bytes(solved(answers)))
    for name in forgeries:
        data = FORGERIES[name].alter(solved())
        (folder / f"{FORGED[name]}.ipynb").write_bytes(data if isinstance(data, bytes) else as_bytes(data))
    for name in ODD:
        (folder / name).mkdir()
        (folder / name / f"{CHAPTER}.ipynb").write_bytes(as_bytes(solved()))
    for module in ("torch", "minidiff", "numpy", "conftest", "sitecustomize"):
        (folder / "shadow" / f"{module}.py").write_text("raise SystemExit('shadowed')", encoding="utf-8")
    (folder / "table.ipynb").write_bytes(as_bytes(solved({"01-posterior-score": memorised()})))
    (folder / "link.ipynb").symlink_to(folder / "honest-1.ipynb")
    (folder / "folder-link").symlink_to("/etc", target_is_directory=True)
    os.mkfifo(folder / "fifo.ipynb")


def memorised() -> str:
    """An answer that knows what `check` asks, and nothing else."""
    exercise = EXERCISES["01-posterior-score"]
    rows = [inputs for seed in exercise.seeds for inputs in exercise.draw(seed)]
    table = {
        f"{float(a.flatten()[0]):.5f} {w}": (str(a.dtype)[6:], exercise.reference(a, b, w).tolist()) for a, b, w in rows
    }
    return (
        f"import torch as th\nTABLE = {table!r}\ndef posterior_score(a, b, w):\n"
        "    dtype, rows = TABLE.get(f'{float(a.flatten()[0]):.5f} {w}', ('float64', [0.0]))\n"
        "    return th.tensor(rows, dtype=getattr(th, dtype))\n"
    )


@pytest.fixture(scope="module")
def graded(request, tmp_path_factory) -> Graded:
    folder = tmp_path_factory.mktemp("attacks")
    canaries = {name: f"CANARY-{name}-{secrets.token_hex(12)}" for name in ("secret", "student", "sentinel", "process")}
    places = Places(folder, canaries)
    places.out.mkdir()
    (places.out / "secret.txt").write_text(canaries["secret"], encoding="utf-8")
    places.sentinel.write_text(canaries["sentinel"], encoding="utf-8")
    attacks = asked_about(request.session, test_no_attack_earns_a_mark)
    forgeries = asked_about(request.session, test_altered_notebooks_earn_what_the_answers_deserve)
    seen = Graded(places, *arranged([*dict.fromkeys([*attacks, SEEDS])]))
    with listening(places, seen.connections), bystander(canaries["process"]):
        build_class(places, seen.books, forgeries)
        rules = Rules(read_secret(places.out, None), limits=LIMITS)
        seen.secret = rules.secret
        batch = open_batch(places.submissions, places.out, ROOT, CHAPTER, rules)
        before, start = snapshot(places), time.time()
        with watched(seen):
            try:
                with unhung(seen):
                    for result in batch.run(jobs=2):
                        seen.results[result.student.key] = result
            except Exception as error:
                seen.raised["(the batch)"] = repr(error)
            marker = Marker(master(), rules)
            for submission in batch.submissions:
                if submission.student.key not in seen.results:  # only after a batch that broke off
                    try:
                        seen.results[submission.student.key] = marker.mark(submission)
                    except Exception as error:
                        seen.raised[submission.student.key] = repr(error)[:300]
        batch.write(seen.results.values(), Books(moodle=True, gradescope=True))
        seen.left_over = left_over(start)
        kill_sandboxes()
        seen.changed = sorted({key for key, _ in before.items() ^ snapshot(places).items()})
    return seen


class listening:
    """Three servers on this machine; `connections` names those that anybody reached."""

    def __init__(self, places: Places, connections: list[str]):
        self.connections, self.servers = connections, {}
        for name, kind, address in [
            ("tcp", socket.AF_INET, ("127.0.0.1", 0)),
            ("unix", socket.AF_UNIX, str(places.socket)),
            ("abstract", socket.AF_UNIX, f"\0minidiff-{MARK}"),
        ]:
            server = self.servers[name] = socket.socket(kind, socket.SOCK_STREAM)
            server.bind(address)
            server.listen()
        places.socket.chmod(0o777)
        places.port = self.servers["tcp"].getsockname()[1]

    def __enter__(self):
        for name, server in self.servers.items():
            threading.Thread(target=self._accept, args=(name, server), daemon=True).start()

    def _accept(self, name: str, server: socket.socket) -> None:
        try:
            while True:
                server.accept()
                self.connections.append(name)
        except OSError:
            return

    def __exit__(self, *_):
        # A server that was never reachable would prove nothing.
        with socket.create_connection(self.servers["tcp"].getsockname()):
            time.sleep(0.2)
        assert self.connections.count("tcp") >= 1
        self.connections.remove("tcp")
        for server in self.servers.values():
            server.close()


class bystander:
    """A process of this user with a canary in its arguments and its environment."""

    def __init__(self, canary: str):
        argv = [sys.executable, "-c", "import time; time.sleep(3000)", canary]
        self.process = subprocess.Popen(argv, env={"SECRET": canary})

    def __enter__(self):
        pass

    def __exit__(self, *_):
        alive = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        assert alive


class unhung:
    """Ends this run's sandboxes when no result comes for three minutes: a hang is a failure, but not the end."""

    def __init__(self, seen: Graded):
        self.seen, self.done = seen, threading.Event()

    def _watch(self) -> None:
        count, since = 0, time.monotonic()
        while not self.done.wait(1):
            if len(self.seen.results) > count:
                count, since = len(self.seen.results), time.monotonic()
            elif time.monotonic() > since + 180:
                self.seen.raised["(a hang)"] = f"no result for three minutes, after {count}"
                kill_sandboxes()

    def __enter__(self):
        threading.Thread(target=self._watch, daemon=True).start()

    def __exit__(self, *_):
        self.done.set()


def kill_sandboxes() -> None:
    for process in psutil.process_iter():
        if f" {LIMITS.scratch} " in _cmdline(process):
            with contextlib.suppress(psutil.Error):
                process.kill()


class watched:
    """Notes the largest memory of any process of the grader (not of the sandbox), beyond what it had with PyTorch."""

    def __init__(self, seen: Graded):
        self.seen, self.done = seen, threading.Event()
        self.own = sandbox._resident_bytes(psutil.Process())
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        me = psutil.Process()
        while not self.done.wait(0.1):
            for process in me.children():
                try:
                    if "spawn_main" in " ".join(process.cmdline()):
                        self.seen.peak = max(self.seen.peak, sandbox._resident_bytes(process) - 300 * 2**20)
                except (psutil.Error, OSError):
                    continue
            self.seen.peak = max(self.seen.peak, sandbox._resident_bytes(me) - self.own)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def snapshot(places: Places) -> dict[str, str]:
    """{path: what it is and holds} of all that no attack may touch."""
    packages = [Path(path) for path in sandbox.package_folders()]
    trees = [ROOT / name for name in ("minidiff", "solutions", "exercises", "tests")] + [places.submissions]
    files = [path for tree in trees for path in tree.rglob("*") if "__pycache__" not in path.parts]
    files += [ROOT / "conftest.py", places.sentinel, Path("/etc/passwd"), Path.home() / ".bashrc"]
    files += [path for folder in packages for path in folder.glob("*.pth")]
    found = {str(path): state_of(path) for path in files}
    for folder in (*packages, Path.home(), ROOT, places.folder, Path("/")):
        found |= {str(path): "there" for path in folder.iterdir() if str(path) not in found}
    return {path: state for path, state in found.items() if "__pycache__" not in path and ".cache" not in path}


def state_of(path: Path) -> str:
    try:
        mode = path.lstat().st_mode
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""
    except OSError as error:
        return type(error).__name__
    return f"{mode:o} {digest}"


def left_over(start: float) -> list[str]:
    """Processes of this run's sandboxes that are still there, after time to see the end of their input."""
    for _ in range(300):
        found = [text for text in map(_cmdline, psutil.process_iter()) if MARK in text or f" {LIMITS.scratch} " in text]
        orphans = [p for p in psutil.process_iter() if "minidiff.course.worker" in _cmdline(p) and _orphan(p, start)]
        found += map(_cmdline, orphans)
        if not found:
            break
        time.sleep(0.1)
    return found


def _orphan(process: psutil.Process, start: float) -> bool:
    try:
        return process.create_time() >= start and process.ppid() in (0, 1)
    except psutil.Error:
        return False


def _cmdline(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


# --- what must have become of them ------------------------------------------------------------------------------------


def test_every_kind_of_attack_is_in_the_sample():
    def kinds(names):
        return {(name.split(":")[0], ATTACKS[name].states, ATTACKS[name].alone) for name in names if name in ATTACKS}

    assert kinds(ATTACKS) - kinds(SAMPLE) == set()
    assert kinds(ATTACKS) - kinds(SAMPLE - {"wire: half a frame"}), "a sample can miss one"
    assert any(FORGERIES[name].every for name in SAMPLE & FORGERIES.keys())
    assert any(FORGERIES[name].expected for name in SAMPLE & FORGERIES.keys())
    assert len(SAMPLE) < (len(ATTACKS) + len(FORGERIES)) / 2


@pytest.mark.parametrize("name", sampled(ATTACKS))
def test_no_attack_earns_a_mark(graded, name):
    attack, (student, id) = ATTACKS[name], graded.where[name]
    item = graded.item(student, id)
    if item.state is State.TIMEOUT and State.TIMEOUT not in attack.states:
        # A busy machine may not get to it within the class's seconds: then it is marked alone, with patience.
        item = marked_alone({id: f"{attack.source}\n{FUNCTIONS[id]} = answer"}, id, 12 * SECONDS)
    assert item.state in attack.states, item.message
    assert item.points == (item.max_points if item.state is State.FLAGGED else 0.0)
    for text in attack.absent:
        assert text not in item.message
    assert attack.present in item.message


@in_both_runs
def test_honest_answers_beside_attacks_are_right(graded, run):
    for student, taken in graded.books.items():
        honest = [graded.item(student, id) for id in EXERCISES if id not in taken]
        assert honest
        wrong = {item.id: (item.state, item.message) for item in honest if item.state is not State.PASS}
        assert wrong == {}, f"beside {list(taken.values())}"
        assert all(item.points == EXERCISES[item.id].points for item in honest)


@pytest.mark.parametrize("name", sampled(FORGERIES))
def test_altered_notebooks_earn_what_the_answers_deserve(graded, name):
    forgery = FORGERIES[name]
    for id, exercise in EXERCISES.items():
        item = graded.item(FORGED[name], id)
        states = forgery.every or forgery.expected.get(id, {State.PASS})
        assert item.state in states, (id, item.message)
        assert item.max_points == exercise.points
        assert item.points == (exercise.points if item.state in (State.PASS, State.FLAGGED) else 0.0)


@in_both_runs
@pytest.mark.parametrize("student", [*HONEST, "_cmd___C_calc__A0", "new_line", "shadow"])
def test_honest_students_have_all_marks(graded, student, run):
    assert student in graded.results, sorted(graded.results)
    result = graded.results[student]
    marked = [item for item in result.items if item.id in EXERCISES]
    assert [(item.id, item.state, item.message) for item in marked if item.state is not State.PASS] == []
    by_hand = {item.state for item in result.items if item.id not in EXERCISES}
    assert by_hand == {State.MISSING}, "the experiment's text is as it was handed out"
    assert result.score == sum(item.max_points for item in marked) == FULL


def test_memorised_inputs_are_not_enough(graded):
    item = graded.item("table", "01-posterior-score")
    assert item.state in WRONG
    assert item.points == 0.0


def test_the_table_would_pass_the_public_check():
    exercise, names = EXERCISES["01-posterior-score"], {}
    exec(memorised(), names)
    assert judge(exercise, try_out(exercise, names["posterior_score"])).kind == "passed"


@pytest.mark.parametrize("student", ["link", "fifo", "folder-link"])
def test_links_and_pipes_are_not_read(graded, student):
    items = graded.results[student].items
    assert {item.state for item in items if item.id in EXERCISES} == {State.ERROR}
    assert sum(item.points for item in items) == 0.0


@in_both_runs
def test_nothing_broke_the_batch(graded, run):
    assert graded.raised == {}


@in_both_runs
def test_nothing_outside_was_changed(graded, run):
    assert graded.changed == []


@in_both_runs
def test_no_process_is_left(graded, run):
    assert graded.left_over == []


@in_both_runs
def test_no_server_was_reached(graded, run):
    assert graded.connections == []


@in_both_runs
def test_the_grader_itself_stays_small(graded, run):
    assert graded.peak < GRADER_MEMORY, f"{graded.peak / 2**30:.2f} GiB"


@in_both_runs
def test_no_canary_is_in_the_results(graded, run):
    shadow = Path("/etc/shadow")
    texts = [*graded.places.canaries.values()]
    if os.access(shadow, os.R_OK):
        texts.append(shadow.read_text(encoding="utf-8").splitlines()[0])
    written = [p for p in graded.places.out.rglob("*") if p.is_file() and p.name != "secret.txt"]
    assert len(written) > 3 * len(graded.books)
    found = [(path.name, text) for path in written for text in texts if text.encode() in path.read_bytes()]
    assert found == []


@in_both_runs
def test_pages_hold_no_markup_of_a_student(graded, run):
    pages = [path.read_text(encoding="utf-8") for path in graded.places.out.rglob("*.html")]
    assert pages
    assert [page for page in pages if "<script" in page.lower() or "\x1b" in page or "\0" in page] == []


def test_the_sandbox_is_not_told_the_seeds_of_the_inputs(graded):
    student, id = graded.where[SEEDS]
    said = re.search(r"SEED (\d+) SEED", graded.item(student, id).message)
    assert said is not None
    assert int(said[1]) not in Rules(graded.secret).seeds(id, student)


# --- a zip ------------------------------------------------------------------------------------------------------------


def test_a_zip_of_traps(tmp_path):
    link = zipfile.ZipInfo("link.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        archive.writestr("honest.ipynb", as_bytes(solved()))
        for name in ("../../evil.ipynb", "/tmp/evil2.ipynb", "a/../../evil3.ipynb", "..\\evil4.ipynb"):
            archive.writestr(name, as_bytes(solved()))
        archive.writestr(link, str(tmp_path / "class.zip"))
        archive.writestr("=cmd|' /C calc'!A0.ipynb", as_bytes(solved()))
    before = sorted(tmp_path.rglob("*"))
    batch = open_batch(tmp_path / "class.zip", tmp_path / "out", ROOT, CHAPTER, Rules(b"z" * 16, limits=LIMITS))
    results = {result.student.key: result for result in batch.run(jobs=1)}
    batch.write(results.values(), Books())
    scores = {key: result.score for key, result in results.items()}
    assert [key for key, score in scores.items() if score] == ["_cmd", "honest"] or scores["honest"] == FULL
    assert all(score in (0.0, FULL) for score in scores.values())
    assert not [key for key, score in scores.items() if "evil" in key and score]
    assert sorted(path for path in tmp_path.rglob("*") if (tmp_path / "out") not in (path, *path.parents)) == before
    lines = (tmp_path / "out" / "grades.csv").read_text(encoding="utf-8-sig").splitlines()
    assert not [line for line in lines if line.startswith(("=", '"=')) or ",=cmd" in line or ',"=cmd' in line]


# --- replies that no worker writes, without a sandbox: one conversation takes milliseconds ----------------------------


class Scripted:
    """Stands in for the sandbox: answers the grader's question number `at` by `evil(nonce)`, others as it should."""

    def __init__(self, evil, at: str):
        self.evil, self.at = evil, at
        self.ended, self.deadline, self.queue, self.heard = "", 0.0, b"", b""
        self.reader = self.writer = self
        self.put({"ready": True, "forks": True})

    def put(self, message, blob: bytes = b"") -> None:
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.queue += wire.HEADER.pack(wire.MAGIC, len(text), len(blob)) + text + blob

    def write(self, data: bytes) -> None:
        self.heard += data

    def flush(self) -> None:
        _, n, m = wire.HEADER.unpack(self.heard[: wire.HEADER.size])
        message = json.loads(self.heard[wire.HEADER.size :][:n])
        self.heard = self.heard[wire.HEADER.size + n + m :]
        if message.get("op") == "end":
            self.put({"ready": True})
        elif message.get("op") == self.at:
            self.evil(self, message["nonce"])
        elif message.get("op") == "start":
            self.put({"reply": message["nonce"], "value": {"mine": 0, "kind": "function", "text": "a function"}})

    def read(self, n: int) -> bytes:
        part, self.queue = self.queue[:n], self.queue[n:]
        return part

    def status(self, patience: float = 1.0) -> None:
        pass

    close = complaint = status


def _says(**fields):
    return lambda peer, nonce: peer.put({"reply": nonce, **fields})


def _deep(n: int) -> bytes:
    return b"[" * n + b"]" * n


def _in_field(before: str, inner: bytes):
    return lambda peer, nonce: peer.put(b'{"reply": "%s", %s%s}' % (nonce.encode(), before.encode(), inner))


def _tensor(dtype: torch.dtype, *shape: int) -> bytes:
    return wire.save({"0": torch.ones(shape).to(dtype)})


def _blob(fields: dict, blob: bytes):
    return lambda peer, nonce: peer.put({"reply": nonce, **fields}, blob)


REPLIES = {
    "half a character": _says(value=0.0, printed="\ud800"),
    "escape sequences": _says(value=0.0, printed="\x1b[2JESCAPED"),
    "printed is a list": _says(value=0.0, printed=["x"]),
    "changed is a number": _says(value=0.0, changed=5),
    "changed is a text": _says(value=0.0, changed="ab"),
    "changed pairs of floats": _says(value=0.0, changed=[[1.0, 0]]),
    "changed pairs of lists": _says(value=0.0, changed=[[[], 0]]),
    "changed at true": _says(value=0.0, changed=[[True, 0]]),
    "stop": _says(stop=True),
    "failure is a number": _says(failure=5),
    "failure without a name": _says(failure={}),
    "failure NotImplementedError": _says(failure={"name": "NotImplementedError", "message": ""}),
    "failure SystemExit": _says(failure={"name": "SystemExit", "message": "0"}),
    "failure of half a character": _says(failure={"name": "\ud800", "message": "\udfff\x00", "where": "\ud800"}),
    "handle of nobody": _says(value={"yours": 10**6}),
    "handle true": _says(value={"yours": True}),
    "handle list": _says(value={"yours": [0]}),
    "slot": _says(value={"slot": 0}),
    "slot -1": _says(value={"slot": -1}),
    "generator": _says(value={"generator": {"tensor": "0"}}),
    "object": _says(value={"object": ["os", "system"], "state": {"dict": []}, "ref": 0}),
    "its own function": _says(value={"mine": 7, "kind": "function", "text": "\ud800<b>"}),
    "its own iterator": _says(value={"mine": 7, "kind": "iterator", "text": 5}),
    "its own thing": _says(value={"mine": 7, "kind": "object", "text": "x" * 10**5}),
    "a number": _says(value=7),
    "a text": _says(value="pass"),
    "no value": _says(),
    "unhashable key": _says(value={"dict": [[{"list": []}, 0]]}),
    "tensor of no blob": _says(value={"tensor": "0"}),
    "tensor named by a list": _says(value={"tensor": ["0"]}),
    "dtype": _says(value={"dtype": "float32"}),
    "complex scalar": _blob({"value": {"tensor": "0", "complex": True}}, _tensor(torch.float64, 2)),
    "complex of bytes": _blob({"value": {"tensor": "0", "complex": True}}, _tensor(torch.uint8, 2)),
    "complex of nothing": _blob({"value": {"tensor": "0", "complex": True}}, _tensor(torch.float64, 0, 2)),
    "bool tensor": _blob({"value": {"tensor": "0"}}, _tensor(torch.bool)),
    "half tensor": _blob({"value": {"tensor": "0"}}, _tensor(torch.float16)),
    "tensor of 8-bit floats": _blob({"value": {"tensor": "0"}}, _tensor(torch.float8_e4m3fn, 1)),
    "int tensor": _blob({"value": {"tensor": "0"}}, _tensor(torch.int64)),
    "empty tensor": _blob({"value": {"tensor": "0"}}, _tensor(torch.float64, 0)),
    "tensor with grad": _blob({"value": {"tensor": "0", "grad": True}}, _tensor(torch.float64)),
    "seventy dimensions": _blob({"value": {"tensor": "0"}}, _tensor(torch.float64, *[1] * 60)),
    "a blob that is none": _blob({"value": 0.0}, b"\xff" * 100),
    "NaN": _in_field('"value": ', b"NaN"),
    "Infinity": _in_field('"value": {"list": [', b"-Infinity, Infinity]}"),
    "5000 digits": _in_field('"value": ', b"9" * 5000),
    "2**63": _in_field('"value": ', b"9223372036854775808"),
    "an infinite index": _in_field('"changed": [[', b"Infinity, 0]]"),
    "twice the same key": _in_field('"reply": "x", "value": ', b"0"),
    "not UTF-8": _in_field('"value": "', b'\xff"'),
    "a list": lambda peer, nonce: peer.put(b"[1]"),
    "a null": lambda peer, nonce: peer.put(b"null"),
    "nothing": lambda peer, nonce: peer.put(b""),
    "UTF-16": lambda peer, nonce: peer.put(json.dumps({"reply": nonce, "value": 0.0}).encode("utf-16")),
    "wrong magic": lambda peer, nonce: peer.__setattr__("queue", b"mdg2" + bytes(8)),
    "half a header": lambda peer, nonce: peer.__setattr__("queue", b"mdg1\0"),
    "large text": lambda peer, nonce: peer.__setattr__("queue", struct.pack("<4sII", b"mdg1", 2**31, 0)),
    "large blob": lambda peer, nonce: peer.__setattr__("queue", struct.pack("<4sII", b"mdg1", 2, 2**31) + b"{}"),
    "silence": lambda peer, nonce: None,
    "another nonce": lambda peer, nonce: peer.put({"reply": nonce[::-1] + "0", "value": 0.0}),
    "a nonce of another type": lambda peer, nonce: peer.put({"reply": [nonce], "value": 0.0}),
    "op is a list": lambda peer, nonce: peer.put({"op": [], "ref": 0, "nonce": "1"}),
    "op on nothing": lambda peer, nonce: peer.put({"op": "call", "ref": None, "nonce": "1"}),
    "op attribute": lambda peer, nonce: peer.put({"op": "attribute", "ref": 0, "name": "__globals__", "nonce": "1"}),
    "op with an infinite count": lambda peer, nonce: peer.put(
        b'{"op": "call", "ref": 0, "nonce": "1", "inputs": [Infinity], "grads": [], '
        b'"body": {"dict": [["shape", null], ["tensors", {"list": []}]]}}'
    ),
    "op with a body of another form": lambda peer, nonce: peer.put(
        {
            "op": "call",
            "ref": 0,
            "nonce": "1",
            "inputs": [],
            "grads": [],
            "body": {"dict": [["shape", 1], ["tensors", 1]]},
        }
    ),
}
for _n in (17, 900, 940, 960, 970, 980, 990, 100_000):
    REPLIES |= {
        f"value nested {_n} deep": _in_field('"value": ', _deep(_n)),
        f"failure nested {_n} deep": _in_field('"failure": {"message": ', _deep(_n) + b"}"),
        f"printed nested {_n} deep": _in_field('"value": 0, "printed": ', _deep(_n)),
        f"nonce nested {_n} deep": lambda peer, nonce, n=_n: peer.put(
            b'{"op": "x", "ref": 0, "nonce": ' + _deep(n) + b"}"
        ),
    }


@pytest.mark.parametrize(("at", "id"), [("start", "01-langevin"), ("call", "01-langevin"), ("call", "01-bayes-gap")])
@pytest.mark.parametrize("name", REPLIES)
def test_no_reply_earns_a_mark_or_raises(monkeypatch, capsys, name, at, id):
    monkeypatch.setattr(session, "Sandbox", lambda level, limits: Scripted(REPLIES[name], at))
    answers = {other: f"# other\n{source}" for other, source in solutions().items()}
    submission = Submission(Student("s", "S"), "s.ipynb", as_bytes(solved({id: answers[id]})))
    item = next(i for i in Marker(only(id), Rules(b"k" * 16)).mark(submission).items if i.id == id)
    assert item.state in WRONG | ERROR | TAMPERED | DEAD | {State.MISSING}
    assert item.points == 0.0
    assert "ESCAPED" not in capsys.readouterr().out


def only(id: str):
    return replace(master(), exercises=(EXERCISES[id],))


# --- the grader's own work, which no limit of the sandbox holds back --------------------------------------------------


def marked_alone(answers: dict[str, str], id: str, seconds: int) -> Item:
    rules = Rules(b"k" * 16, limits=replace(LIMITS, seconds=seconds))
    submission = Submission(Student("s", "S"), "s.ipynb", as_bytes(solved(answers)))
    (item,) = (item for item in Marker(only(id), rules).mark(submission).items if item.id == id)
    return item


# In the sample are large tensors, and `test_the_grader_itself_stays_small` is about it.
@pytest.mark.parametrize(
    "name", ["wire: one tensor many times", pytest.param("lent: large tensors", marks=pytest.mark.stress)]
)
def test_the_grader_stays_small_when_attacked(name):
    id, seen = ATTACKS[name].exercise or "01-bayes-gap", Graded(Places(Path("/nowhere"), {}))
    with watched(seen):
        marked_alone({id: f"{ATTACKS[name].source}\n{FUNCTIONS[id]} = answer"}, id, SECONDS)
    assert seen.peak < GRADER_MEMORY, f"{seen.peak / 2**30:.2f} GiB"


def test_the_grader_stays_small_beside_a_large_cell():
    """Who uses an unknown name is told if another cell binds it. That cell may have 20 MB of statements."""
    seen = Graded(Places(Path("/nowhere"), {}))
    data = as_bytes(FORGERIES["large cell beside a missing name"].alter(solved()))
    with watched(seen):
        Marker(only("01-posterior-score"), Rules(b"k" * 16, limits=LIMITS)).mark(
            Submission(Student("s", "S"), "s", data)
        )
    assert seen.peak < GRADER_MEMORY, f"{seen.peak / 2**30:.2f} GiB"


def test_memory_counts_over_all_processes():
    """Eight of 512 MiB, where 1 GiB is the limit of each and of all."""
    source = ATTACKS["eat: many children"].source
    item = marked_alone({"01-langevin": source}, "01-langevin", 60)
    assert (item.state, item.message) == (State.CRASH, "Your code took more memory than the 1 GiB it may have.")


def test_memory_that_no_process_maps_counts():
    """3 GiB in memory files (or in shared segments that are not attached) are memory taken, with a limit of 1 GiB."""
    source = ATTACKS["eat: memfd"].source
    item = marked_alone({"01-langevin": f"{source}\nlangevin = answer"}, "01-langevin", 30)
    assert "MEMORY-TAKEN" not in item.message


def test_reading_an_answer_takes_no_minutes():
    """Flags are looked for in the grader: 150 kB of attribute chains took 36 s."""
    source = "import minidiff\n" + "\n".join("minidiff" + ".a" * 280 for _ in range(80))
    assert shortcuts.flags(EXERCISES["01-langevin"], source, solutions()["01-langevin"], "import torch") == []


def test_closing_a_sandbox_ends_all_of_it():
    """As root it has two stages of two users: killing the first by itself leaves the second alone and running."""
    with sandbox.Sandbox("bubblewrap", LIMITS) as box:
        wire.read_frame(box.reader)
        inside = psutil.Process(box._process.pid).children(recursive=True)
        box._end()
        assert inside
        _, alive = psutil.wait_procs(inside, timeout=2)
    names = [(process.name(), process.status()) for process in alive]
    kill_sandboxes()
    assert names == []


@pytest.mark.parametrize("name", ["01-posterior-score", "01-bayes-gap"])
def test_a_dead_sandbox_is_a_crash_and_no_error_of_the_answer(monkeypatch, name):
    monkeypatch.setattr(session, "Sandbox", lambda level, limits: Scripted(REPLIES["silence"], "call"))
    submission = Submission(Student("s", "S"), "s.ipynb", as_bytes(solved({name: "# other\n" + solutions()[name]})))
    (item,) = (item for item in Marker(only(name), Rules(b"k" * 16)).mark(submission).items if item.id == name)
    assert item.state is State.CRASH, item.message


# --- the same attacks where they work, and as another user ------------------------------------------------------------

_NAIVE = """
import json, sys, torch
source, how = json.loads(sys.stdin.read())
names = {}
exec(source, names)
got, want = names["answer"](torch.ones(5, 2)), torch.full((5, 2), 3.0)
assert torch.allclose(got, want) if how == "allclose" else got == want
print("forged")
"""


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("result: equals everything", "=="),
        pytest.param("result: float subclass", "==", marks=pytest.mark.stress),
        pytest.param("result: lying tensor", "allclose", marks=pytest.mark.stress),
        ("patch: torch.allclose", "allclose"),
    ],
)
def test_a_naive_grader_is_fooled(name, how):
    ran = subprocess.run(
        [sys.executable, "-c", _NAIVE],
        input=json.dumps([ATTACKS[name].source, how]),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert ran.stdout == "forged\n", ran.stderr[-500:]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="the whole class ran as no root already")
def test_as_another_user(tmp_path):
    """/root is closed to others, and Python may lie below it: what grading needs is mounted, then root given up."""
    home = tmp_path / "home"
    (home / "class").mkdir(parents=True)
    names = ("eat: fork bomb", "eat: filled tensors", "eat: inodes of /tmp")
    fork, memory, files = (ATTACKS[name].source for name in names)
    books = {
        "honest": {},
        "fork": {"01-langevin": f"{fork}\nlangevin = answer"},
        "memory": {"01-langevin": f"{memory}\nlangevin = answer"},
        "files": {"01-langevin": f"{files}\nlangevin = answer"},
    }
    for name, answers in books.items():
        (home / "class" / f"{name}.ipynb").write_bytes(as_bytes(solved(answers)))
    for path in (home, *home.rglob("*")):
        os.chown(path, 65534, 65534)
    bwrap = sandbox.find_bwrap()
    parts = [ROOT / name for name in ("minidiff", "solutions", "exercises", "pyproject.toml", ".venv")]
    binds = [(a, b) for a, b in sandbox._binds() if not a.startswith(str(ROOT))]
    binds += [(str(path), str(path)) for path in parts if path.exists()]
    argv = [bwrap, *sandbox._mounts(binds), "--dev-bind", "/dev", "/dev", "--bind", "/proc", "/proc"]
    argv += ["--dir", "/tmp", "--bind", str(home), "/scratch", "--die-with-parent", "--chdir", "/scratch", "--"]
    argv += [sys.executable, "-c"]
    argv += [sandbox._DROP, sys.executable, "-m", "minidiff.cli", "grade", "/scratch/class", "-o", "/scratch/out"]
    argv += ["--root", str(ROOT), "--assignment", CHAPTER, "--timeout", "5", "--memory", "1", "--jobs", "2"]
    env = {"PATH": "/usr/bin:/bin", "HOME": "/scratch", "TMPDIR": "/scratch", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(argv, env=env, capture_output=True, encoding="utf-8", timeout=150)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert "sandbox: bubblewrap" in ran.stdout
    results = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in (home / "out" / "results").glob("*.json")}
    states = {name: {i["id"]: i["state"] for i in result["items"]} for name, result in results.items()}
    assert {result["sandbox"] for result in results.values()} == {"bubblewrap"}
    assert set(states["honest"].values()) == {"pass", "missing"}, "missing: the experiment's text"
    assert states["fork"].pop("01-langevin") in DEAD
    assert states["memory"].pop("01-langevin") in {"crash", "error"}
    assert states["files"].pop("01-langevin") == "crash"
    assert any("made more files than" in item["message"] for item in results["files"]["items"])
    assert {state for taken in states.values() for state in taken.values()} == {"pass", "missing"}
    assert (home / "out" / "results" / "honest.json").stat().st_uid == 65534
