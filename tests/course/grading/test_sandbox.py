"""How the sandbox is put together: what it mounts, what it tells, and what it hides."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from minidiff.course.grading import sandbox
from minidiff.course.grading.results import State
from minidiff.course.grading.sandbox import Limits
from minidiff.course.grading.session import Session, SessionEnded, Task


def run(code):
    """Standard output of Python code in the sandbox, in its folder /tmp."""
    argv = sandbox.command(sandbox.find_bwrap(), Limits(), ["-I", "-S", "-c", code])
    return subprocess.run(argv, env={}, capture_output=True, encoding="utf-8", timeout=60, check=True).stdout


def test_the_environment_holds_numeric_settings_and_nothing_of_the_user(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("PYTHONPATH", "/evil")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    told = sandbox.environment("/tmp")
    assert told["OPENBLAS_CORETYPE"] == "Haswell", "some processors compute wrong without it"
    assert not {"SECRET_TOKEN", "PYTHONPATH", "USER", "LOGNAME"} & set(told)
    assert told["HOME"] == "/tmp"


@pytest.mark.skipif(os.geteuid() != 0, reason="two stages are for root")
def test_root_has_a_stage_that_gives_up_root_and_other_users_have_not(monkeypatch):
    as_root = sandbox.command("/usr/bin/bwrap", Limits(), ["-c", "pass"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    as_user = sandbox.command("/usr/bin/bwrap", Limits(), ["-c", "pass"])
    assert as_root.count("/usr/bin/bwrap") > as_user.count("/usr/bin/bwrap") == 1
    assert sandbox._DROP in as_root
    assert sandbox._DROP not in as_user
    sealed = as_root[as_root.index(sandbox._DROP) + 1 :]
    for argv in (as_user, sealed):
        assert {"--unshare-user", "--disable-userns", "--unshare-net", "--unshare-pid", "--cap-drop"} <= set(argv)
        assert argv[-2:] == ["-c", "pass"]


def test_only_the_workers_half_of_the_course_is_there():
    seen = run("import os; print(sorted(n for n in os.listdir('/grader/minidiff/course') if n.endswith('.py')))")
    assert seen == "['__init__.py', 'peer.py', 'seccomp.py', 'wire.py', 'worker.py']\n"
    assert run("import os; print(os.path.exists('/grader/minidiff/guidance.py'))") == "True\n", "control"


def test_a_copy_of_the_library_among_the_installed_packages_is_covered(monkeypatch, tmp_path):
    chapter = tmp_path / "minidiff" / "course" / "checks" / "01_bayes_rule"
    chapter.mkdir(parents=True)
    (chapter / "langevin.py").write_text("REFERENCE = 1", encoding="utf-8")
    (tmp_path / "other.py").write_text("", encoding="utf-8")
    tmp_path.chmod(0o755)  # the sandbox's user is nobody
    folders = sandbox.package_folders()
    monkeypatch.setattr(sandbox, "package_folders", lambda: [*folders, str(tmp_path)])
    assert run(f"import os; print(sorted(os.listdir({str(tmp_path)!r})))") == "['minidiff', 'other.py']\n"
    assert run(f"import os; print(os.listdir({str(tmp_path / 'minidiff')!r}))") == "[]\n"


def test_a_staged_library_has_the_worker_in_place_of_the_course(tmp_path):
    package = sandbox._staged(tmp_path) / "minidiff"
    assert (package / "guidance.py").exists()
    assert (package / "course" / "worker.py").exists()
    assert not (package / "course" / "checks").exists()


def test_packages_that_nobody_may_read_are_noticed_before_anything_is_graded(monkeypatch, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can install what others may not read")
    closed = tmp_path / "torch.py"
    closed.touch(mode=0o600)
    tmp_path.chmod(0o755)
    folders = sandbox.package_folders()
    monkeypatch.setattr(sandbox, "package_folders", lambda: [*folders, str(tmp_path)])
    monkeypatch.setattr(sandbox.torch, "__file__", str(closed))
    sandbox.find_bwrap.cache_clear()
    try:
        with pytest.raises(sandbox.Unsandboxed, match=r"torch\.py is not readable"):
            sandbox.find_bwrap()
    finally:
        sandbox.find_bwrap.cache_clear()


@pytest.mark.parametrize("size", [2**20, 2**23])
def test_scratch_space_is_as_large_as_the_limit_says(monkeypatch, size):
    argv = sandbox.command(sandbox.find_bwrap(), Limits(scratch=size), ["-I", "-S", "-c", FILL])
    held = subprocess.run(argv, env={}, capture_output=True, encoding="utf-8", timeout=60, check=True).stdout
    assert [size - 2**17 <= int(n) <= size for n in held.split()] == [True, True]


def test_the_watch_counts_files():
    def task(made, seconds):
        code = f"import os, time\nfor n in range({made}): os.mknod(f'/dev/shm/{{n}}')\ntime.sleep({seconds})"
        return Task((f"{code}\nanswer = str",), "answer", 0)

    with Session("bubblewrap", Limits(entries=3_000)) as session:
        assert session.start(task(made=2_000, seconds=0.5))(3) == "3"
        session.finish()
        with pytest.raises(SessionEnded, match="more files than the 3,000") as caught:
            session.start(task(made=4_000, seconds=50))
        assert caught.value.state == State.CRASH


SPIN = "def answer():\n    while True: pass"
ENDS = {
    "computes": (SPIN, State.TIMEOUT, "more than 2 seconds of processor time"),
    "ignores the signal": (f"import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n{SPIN}", State.TIMEOUT,
                           "more than 2 seconds of processor time"),
    "kills itself": ("import os\ndef answer(): os.kill(os.getpid(), 9)", State.CRASH, "ended its Python process"),
}  # fmt: skip
REPEATED = ("none", "ignores the signal")


# That the signal is ignored, the kernel and the grader notice with a sandbox as without.
SWEEP = [
    pytest.param(level, *end, id=f"{level}-{name}", marks=[pytest.mark.stress] * ((level, name) == REPEATED))
    for level in ("bubblewrap", "none")
    for name, end in ENDS.items()
]


@pytest.mark.parametrize(("level", "code", "state", "message"), SWEEP)
def test_processor_time_that_is_used_up_is_no_crash(level, code, state, message):
    """Two threads use it up before the wall clock; here the wall clock waits."""
    with Session(level, Limits(seconds=2)) as session:
        answer = session.start(Task((code,), "answer", 0))
        assert session._sandbox is not None
        session._sandbox.deadline += 100
        with pytest.raises(SessionEnded, match=message) as caught:
            session.guarded(answer)
        assert caught.value.state == state


def busy():
    """A function of the grader that somebody makes compute for ever."""
    while True:
        time.sleep(0)


def test_what_the_grader_computes_on_demand_ends_with_the_time_that_the_answer_has():
    before = signal.getsignal(signal.SIGALRM)
    with Session("bubblewrap", Limits(seconds=3)) as session:
        answer = session.start(Task(("answer = lambda: busy()",), "answer", 0, {"busy": busy}))
        with pytest.raises(SessionEnded, match="made the grader compute") as caught:
            session.guarded(answer)
        assert caught.value.state == State.TIMEOUT
        assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == (before, (0, 0))
        quick = session.start(Task(("answer = lambda: busy() + 1",), "answer", 0, {"busy": lambda: 41}))
        assert session.guarded(quick) == 42, "another exercise, in another sandbox"


FILL = """
for folder in ("/tmp", "/dev/shm"):
    n = 0
    with open(f"{folder}/fill", "wb", buffering=0) as file:
        try:
            while n < 2**24:
                n += file.write(bytes(2**16))
        except OSError:
            pass
    print(n)
"""


@pytest.mark.parametrize("code", ["pass", "if os.fork() == 0: os.setsid()"], ids=["alone", "with a daemon"])
def test_with_the_first_process_everything_in_the_sandbox_dies(code):
    """As when the grader is killed: nobody is left to clean up, so the kernel has to."""
    argv = sandbox.command(sandbox.find_bwrap(), Limits(), ["-I", "-S", "-c", f"import os, time\n{code}\n{WAIT}"])
    first = subprocess.Popen(argv, env={}, stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.readline() == b"ready\n"
    tree = psutil.Process(first.pid).children(recursive=True)
    assert any("python" in process.name() for process in tree)
    first.kill()
    first.wait()
    _, alive = psutil.wait_procs(tree, timeout=30)
    for process in alive:
        process.kill()
    assert alive == []


WAIT = "print('ready', flush=True); time.sleep(600)"


GRADER = """
import subprocess, sys, time
pipe = subprocess.PIPE
subprocess.Popen(sys.argv[1:], env={}, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
print("started", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("times", [12, pytest.param(60, marks=pytest.mark.stress)])
def test_a_grader_that_is_killed_at_any_moment_leaves_no_process(times):
    """Killed within 60 ms of starting a sandbox, at the worst of times. (It left every third, once.)"""
    limits = Limits(scratch=8 * 2**20 + 4096 * (os.getpid() % 1000))  # tells these sandboxes from all others
    boot = [*sandbox._python_options(), "-c", sandbox._boot("/grader", sandbox.package_folders())]
    argv = sandbox.command(sandbox.find_bwrap(), limits, boot)
    chance = random.Random(0)
    for _ in range(times):
        grader = subprocess.Popen([sys.executable, "-I", "-S", "-c", GRADER, *argv], stdout=subprocess.PIPE)
        assert grader.stdout is not None
        assert grader.stdout.readline() == b"started\n"
        time.sleep(chance.uniform(0, 0.06))
        grader.kill()
        grader.wait()
    deadline = time.monotonic() + 60
    while (left := of_sandboxes(limits)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in left:
        process.kill()
    assert left == []


def of_sandboxes(limits):
    """The processes of the sandboxes with these limits, by their command line or their parents'."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(limits.scratch) in process.cmdline():
                found += [process, *process.children(recursive=True)]
    return found
