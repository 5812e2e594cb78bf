"""What a cheating student could put into an answer cell, as data; `test_attacks.py` says what must become of it.

An attack defines `answer`, which stands for the function of whatever exercise it is put into. Names in capitals
(OUT, SUBMISSIONS, ROOT, …) are replaced by what they are in the test. PyTorch is imported as `th`: a cell that binds
`torch` would also be run before the other answers that need this name.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from minidiff.course.grading.results import State

Document = dict

# It ran to its end, and what came back is not right. An attack that breaks off (ERROR) has not tried all it should.
WRONG = frozenset({State.FAIL, State.PARTIAL})
CRASH, TIMEOUT, TAMPERED = (frozenset({state}) for state in (State.CRASH, State.TIMEOUT, State.TAMPERED))
ERROR, MISSING, FLAGGED = (frozenset({state}) for state in (State.ERROR, State.MISSING, State.FLAGGED))
DEAD = CRASH | TIMEOUT


@dataclass(frozen=True)
class Attack:
    """`states`: those that are allowed. `exercise`: where it has to stand, "" for anywhere.

    absent  what must not be in the message that the student is shown, present: what must be
    alone   the other five exercises of its notebook are solved honestly
    """

    source: str
    states: frozenset[State] = WRONG
    exercise: str = ""
    absent: tuple[str, ...] = ()
    present: str = ""
    alone: bool = False


ATTACKS: dict[str, Attack] = {}


def _add(name: str, source: str, *args, **kwargs) -> None:
    assert name not in ATTACKS
    # A cell that binds `answer` in no way would get it from another cell.
    source = source.strip("\n") + ("" if "answer" in source or "nafjre" in source else "\nanswer = None")
    ATTACKS[name] = Attack(source, *args, **kwargs)


# --- results that claim to equal anything -----------------------------------------------------------------------------

_RESULTS = {
    "equals everything": """
class Anything:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    __hash__ = None
answer = lambda *args: Anything()
""",
    "torch function": """
import torch as th
class Anything:
    shape, dtype, ndim, device, requires_grad, is_leaf = (), th.float64, 0, th.device("cpu"), False, True
    @classmethod
    def __torch_function__(cls, f, types, args=(), kwargs=None): return True
answer = lambda *args: Anything()
""",
    "float subclass": """
class Anything(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    def __rsub__(self, other): return 0.0
    def __abs__(self): return 0.0
    def __float__(self): return float("nan")
answer = lambda *args: Anything("nan")
""",
    "int subclass": """
class Anything(int):
    def __eq__(self, other): return True
    def __le__(self, other): return True
    def __int__(self): return 0
answer = lambda *args: Anything(7)
""",
    "bool": "answer = lambda *args: True",
    "str": "answer = lambda *args: 'pass'",
    "bytes": "answer = lambda *args: b'\\x00' * 1000",
    "dict": "answer = lambda *args: {'state': 'pass', 'points': 3, 'kind': 'passed'}",
    "str subclass": """
class Anything(str):
    def __eq__(self, other): return True
    __hash__ = str.__hash__
answer = lambda *args: Anything("tensor([0.])")
""",
    "fake conversions": """
import numpy, torch as th
class Anything:
    def __repr__(self): return "tensor(0., dtype=torch.float64) <script>alert(1)</script>"
    def __float__(self): return 0.0
    def __array__(self, *a, **k): return numpy.zeros(3)
    def __iter__(self): return iter(())
    def __len__(self): return 3
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
answer = lambda *args: Anything()
""",
    "repr raises": """
class Anything:
    def __repr__(self): raise SystemExit("repr")
    __str__ = __format__ = __bool__ = __eq__ = __repr__
answer = lambda *args: Anything()
""",
    "claims to be a tensor": """
import torch as th
class Anything:
    @property
    def __class__(self): return th.Tensor
answer = lambda *args: Anything()
""",
    "lying tensor": """
import torch as th
class Liar(th.Tensor):
    @classmethod
    def __torch_function__(cls, f, types, args=(), kwargs=None):
        name = getattr(f, "__name__", "")
        if name in ("allclose", "equal", "isclose", "__eq__", "isfinite", "all"): return True
        if name in ("isnan",): return False
        return super().__torch_function__(f, types, args, kwargs or {})
answer = lambda *args: th.full((5, 2), float("nan"), dtype=th.float64).as_subclass(Liar)
""",
    "lying shape": """
import torch as th
class Liar(th.Tensor):
    shape = property(lambda self: (5, 2))
    dtype = property(lambda self: th.float64)
answer = lambda *args: th.zeros(1).as_subclass(Liar)
""",
    "nan everywhere": """
import torch as th
answer = lambda *args: next(a for a in args if th.is_tensor(a)) * float("nan")
""",
    "infinity": "answer = lambda *args: float('inf')",
    "5000 digits": "answer = lambda *args: 10 ** 5000",
    "object array": """
import numpy
answer = lambda *args: numpy.array([object(), print], dtype=object)
""",
    "numpy zeros": """
import numpy
answer = lambda *args: numpy.zeros((5, 2))
""",
    "pickle": """
import os
class Evil:
    def __reduce__(self): return (os.system, ("touch SENTINEL.pickled",))
    __reduce_ex__ = lambda self, protocol: self.__reduce__()
answer = lambda *args: Evil()
""",
    "empty tuple": "answer = lambda *args: ()",
    "own container": """
class Endless(list):
    def __iter__(self):
        while True: yield 0.0
    def __len__(self): return 1
answer = lambda *args: Endless([0.0])
""",
    "contains itself": """
def answer(*args):
    a = [0.0]
    a.append(a)
    return a
""",
    "sparse tensor": """
import torch as th
answer = lambda *args: th.zeros(5, 2, dtype=th.float64).to_sparse()
""",
    "meta tensor": """
import torch as th
answer = lambda *args: th.zeros(5, 2, dtype=th.float64, device="meta")
""",
    "quantized tensor": """
import torch as th
answer = lambda *args: th.quantize_per_tensor(th.zeros(5, 2), 0.1, 0, th.qint8)
""",
    "expanded tensor": """
import torch as th
answer = lambda *args: th.zeros(1, dtype=th.float64).expand(10**9)
""",
    "needs grad": """
import torch as th
answer = lambda *args: th.zeros((), dtype=th.float64, requires_grad=True).exp()
""",
    "half": "import torch as th\nanswer = lambda *args: th.zeros(5, 2, dtype=th.bfloat16)",
    "bool tensor": "import torch as th\nanswer = lambda *args: th.ones(5, 2, dtype=th.bool)",
    "function for a number": "answer = lambda *args: answer",
    "class for a number": "class answer:\n    def __init__(self, *args): pass",
    "module for a number": "import os\nanswer = lambda *args: os",
    "borrowed back": "answer = lambda *args: args[0]",
    "library object": """
from minidiff.schedules import Linear
def answer(*args):
    x = Linear()
    x.__dict__["loop"] = x
    return x
""",
    "hostile texts": """
class Anything:
    def __repr__(self): return "</code></p><script>alert(1)</script>\\x1b[2J\\x00\\u202e" + "A" * 10**7
Anything.__name__ = Anything.__qualname__ = "<script>alert(2)</script>"
answer = lambda *args: Anything()
""",
}
_OTHER_STATES = {"own container": WRONG | TIMEOUT, "claims to be a tensor": ERROR, "expanded tensor": ERROR}
for _name, _source in _RESULTS.items():
    _add(f"result: {_name}", _source, _OTHER_STATES.get(_name, WRONG))
_add(
    "result: complex, where a number is due",
    """
import torch as th
answer = lambda *args: th.complex(args[-1].sum() * 3 + 1, args[-1].sum()).reshape(())
""",
    exercise="01-bayes-gap",
)
_add(
    "result: endless generator",
    """
def answer(*args):
    while True:
        yield 0.0
""",
    DEAD | TAMPERED,
)
_add(
    "result: generator that raises",
    """
def answer(*args):
    yield 0.0
    raise GeneratorExit
""",
    ERROR,
)

# --- changes to what would compare, if it ran here --------------------------------------------------------------------

_PATCHES = {
    "torch.allclose": "import torch as th\nth.allclose = th.equal = th.isclose = lambda *a, **k: True",
    "tensor methods": """
import torch as th
for name in ("__eq__", "allclose", "equal", "all", "isfinite", "__bool__"):
    setattr(th.Tensor, name, lambda *a, **k: True)
""",
    "builtins": """
import builtins
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
builtins.float = lambda *a: 0.0
""",
    "json and hmac": """
import hmac, json
json.dumps = lambda *a, **k: '{"state": "pass", "points": 3}'
hmac.compare_digest = lambda *a: True
hmac.digest = lambda *a: b"\\0" * 32
""",
    "input transformer": """
get_ipython().input_transformers_post.append(lambda lines: ["answer = lambda *a: 0.0\\n"])
get_ipython().input_transformers_cleanup.append(lambda lines: [])
""",
    "syntax tree transformer": """
import ast
class Zero(ast.NodeTransformer):
    def visit_Return(self, node): return ast.Return(ast.Constant(0.0))
get_ipython().ast_transformers.append(Zero())
""",
    "events": """
def again(*a): get_ipython().user_ns.update(posterior_score=lambda *a: 0.0)
get_ipython().events.register("post_run_cell", again)
get_ipython().events.register("pre_run_cell", again)
""",
    "defaults": """
import torch as th
th.set_default_dtype(th.float16)
th.manual_seed(0)
th.set_grad_enabled(False)
th.use_deterministic_algorithms(True)
th.set_default_device("meta")
""",
    "check says passed": """
import minidiff.course as course
course.Unchecked.passed, course.Unchecked.score = True, 1.0
course.check = lambda *a, **k: course.Unchecked(print, True, 1.0, "passed")
""",
    "atexit and del": """
import atexit, os, threading, time
class Last:
    def __del__(self): os.write(1, b"points 16")
last = Last()
atexit.register(lambda: time.sleep(1000))
threading.Thread(target=lambda: time.sleep(1000)).start()
""",
}
for _name, _source in _PATCHES.items():
    _add(f"patch: {_name}", f"{_source.strip()}\nanswer = lambda *args: 0.0", WRONG | DEAD | TAMPERED)

# --- ending, hanging, eating ------------------------------------------------------------------------------------------

_add("end: os._exit in the cell", "import os\nos._exit(0)\nanswer = 1", CRASH)
_add("end: os._exit in the call", "import os\nanswer = lambda *args: os._exit(0)", CRASH)
_add("end: the status of a child that is done", "import os\nos._exit(77)", CRASH | TAMPERED)
_add("end: sys.exit in the cell", "import sys\nsys.exit(0)", ERROR)
_add("end: sys.exit in the call", "import sys\nanswer = lambda *args: sys.exit(0)", ERROR)
_add("end: SystemExit in the cell", "raise SystemExit(0)", ERROR)
_add("end: KeyboardInterrupt in the cell", "raise KeyboardInterrupt", ERROR)
_add("end: KeyboardInterrupt in the call", "def answer(*args): raise KeyboardInterrupt", ERROR)
_add("end: exit in the call", "answer = lambda *args: exit()", ERROR)
_add(
    "end: endless loop in the cell",
    """
import signal
for number in signal.valid_signals():
    try: signal.signal(number, signal.SIG_IGN)
    except BaseException: pass
while True:
    try:
        while True: pass
    except BaseException: pass
""",
    TIMEOUT,
)
_add(
    "end: endless loop in the call",
    """
import signal
def answer(*args):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        try:
            while True: pass
        except BaseException: pass
""",
    TIMEOUT,
)
_add("end: sleep", "import time\nanswer = lambda *args: time.sleep(10**6)", TIMEOUT)
_add(
    "end: timers",
    """
import os, signal
signal.signal(signal.SIGALRM, lambda *a: os.kill(os.getppid(), signal.SIGCONT))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
signal.setitimer(signal.ITIMER_PROF, 0.01)
answer = lambda *args: 0.0
""",
    WRONG | DEAD,
)
_add("end: input", "answer = lambda *args: input('seed? ')", ERROR)
_add("end: reads standard input", "import sys, os\nanswer = lambda *args: sys.stdin.read() + str(os.read(0, 10))")
_add("end: ctypes fault", "import ctypes\nanswer = lambda *args: ctypes.string_at(0)", CRASH)
_add("end: abort", "import os\nanswer = lambda *args: os.abort()", CRASH)
_add(
    "end: stack overflow",
    """
import sys
sys.setrecursionlimit(10**9)
def answer(*args): return [answer(*args)]
""",
    WRONG | DEAD,
)
_add(
    "end: kills all it can",
    """
import os, signal
def answer(*args):
    for pid in (os.getppid(), 1, -1):
        os.kill(pid, signal.SIGKILL)
""",
    WRONG | CRASH,  # it may have answered before it is gone itself
)
_add(
    "end: stops its parent",
    """
import os, signal
os.kill(os.getppid(), signal.SIGSTOP)
answer = lambda *args: 0.0
""",
    WRONG | DEAD,
)
_add("end: closes all files", "import os\nos.closerange(0, 256)\nanswer = lambda *args: 0.0", CRASH | TAMPERED)
_add(
    "eat: bytearray",
    "kept = []\ndef answer(*args):\n    while True: kept.append(bytearray(b'x') * 10**8)",
    CRASH | ERROR | TIMEOUT,
)
_add(
    "eat: filled tensors",
    """
import torch as th
kept = []
def answer(*args):
    while True: kept.append(th.empty(2**24).fill_(1.0))
""",
    CRASH | ERROR | TIMEOUT,  # beside other work, its seconds end before its memory does
)
_add(
    "eat: shared anonymous mapping",
    """
import mmap
kept = []
while True:
    kept.append(mmap.mmap(-1, 2**28))
    for i in range(0, 2**28, 4096): kept[-1][i] = 1
""",
    CRASH | ERROR | TIMEOUT,  # beside other work, its seconds end before its memory does
)
_add(
    "eat: many children",
    """
import os, time
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(b"x") * 2**29
        time.sleep(1000)
time.sleep(1000)
""",
    DEAD,  # a busy machine may need longer than the time limit to hand out so much
)
# The next two stop at 3 GiB, which is beyond what the sandbox may have, and return what they got.
_add(
    "eat: memfd",
    """
import os, time
kept, block = [], b"x" * (2**25 - 1)
for i in range(96):
    kept.append(os.memfd_create("x"))
    os.write(kept[-1], block)
time.sleep(1)
answer = lambda *args: "MEMORY-TAKEN"
raise RuntimeError("MEMORY-TAKEN")
""",
    DEAD | ERROR,
    absent=("MEMORY-TAKEN",),
)
_add(
    "eat: System V shared memory",
    """
import ctypes, time
c = ctypes.CDLL(None)
c.shmat.restype = ctypes.c_void_p
for i in range(6):
    segment = c.shmget(0, ctypes.c_size_t(2**29), 0o1600)
    at = c.shmat(segment, None, 0)
    if at in (None, 2**64 - 1): raise RuntimeError("refused")
    ctypes.memset(at, 1, 2**29)
    c.shmdt(ctypes.c_void_p(at))
time.sleep(1)
raise RuntimeError("MEMORY-TAKEN")
""",
    DEAD | ERROR,
    absent=("MEMORY-TAKEN",),
)
_add(
    "eat: fork bomb",
    """
import os
while True:
    try: os.fork()
    except OSError: pass
""",
    DEAD,
)
_add(
    "eat: thread bomb",
    """
import threading, time
def answer(*args):
    while True: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
""",
    ERROR | DEAD,
)
_add(
    "eat: disk",
    """
import os
kept = []
for folder in ("/tmp", "/dev/shm", ".", "/", "/var/tmp", "/run", os.path.expanduser("~")):
    for i in range(20):
        try:
            with open(f"{folder}/fill{i}", "wb") as f:
                kept.append(f.name)
                for _ in range(31): f.write(b"x" * 2**20)
        except OSError: break
answer = lambda *args: float(len(kept))
""",
)
for _folder in ("/tmp", "/dev/shm"):
    _add(
        f"eat: inodes of {_folder}",
        f"""
import ctypes, os, time
ctypes.CDLL(None).prctl(4, 0)  # so that nobody reads this process's entry in /proc
for n in range(10**6):
    os.mknod(f"{_folder}/{{n}}")
time.sleep(1)
answer = lambda *args: float(n)
""",
        CRASH,
    )
_add(
    "eat: floods the screen",
    """
import os, sys, time
def answer(*args):
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        print("score: 16/16 " * 10**4)
        sys.stderr.write("points: 3\\n" * 10**4)
        os.write(1, b"x" * 10**6), os.write(2, b"x" * 10**6)
    return 0.0
""",
)
_add(
    "eat: floods the wire",
    """
import os
def answer(*args):
    while True:
        for fd in range(256):
            try: os.write(fd, b"x" * 2**20)
            except OSError: pass
""",
    TAMPERED | DEAD,
)
_add(
    "eat: nested brackets",
    "answer = lambda *args: " + "(" * 95_000 + "0" + ")" * 95_000,
    ERROR,
    alone=True,
)
_add("eat: unary minus", "answer = lambda *args: " + "-" * 150_000 + "1", ERROR | CRASH, alone=True)
_add("eat: attribute chain", "answer = lambda *args: args" + ".a" * 75_000, ERROR | CRASH, alone=True)
_add(
    "eat: many long attribute chains",
    "import minidiff\ndef answer(*args): return 0.0\nif 0:\n" + ("    answer" + ".a" * 280 + "\n") * 40,
)

# --- the protocol -----------------------------------------------------------------------------------------------------

_WIRE = """
import gc, json, os, struct, sys, time
import torch as th
W = next(o for o in gc.get_objects() if type(o).__name__ == "Worker")
wire = sys.modules["minidiff.course.wire"]
def raw(text, blob=b""):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    W.writer.write(struct.pack("<4sII", b"mdg1", len(text), len(blob)) + text + blob)
    W.writer.flush()
answer = lambda *args: 0.0
"""
_ON_THE_WIRE = {
    "serves zeros": (
        """
def serve(message, tensors):
    raw({"reply": message["nonce"], "value": 0.0})
W.serve = serve
""",
        WRONG,
    ),
    "serves the inputs": (
        """
def serve(message, tensors):
    body = W.unpack(message["body"], tensors, slots=True)
    W.send({"reply": message["nonce"]}, body["tensors"], key="value")
W.serve = serve
""",
        WRONG,
    ),
    "claims a handle": (
        """
def serve(message, tensors):
    raw({"reply": message["nonce"], "value": {"yours": 12345}})
W.serve = serve
""",
        TAMPERED,
    ),
    "performs nothing": ("W.perform = lambda message, body: ({'stop': True}, None)", WRONG),
    "sends forged marks": (
        """
def serve(message, tensors):
    raw({"reply": message["nonce"], "value": 0.0, "state": "pass", "points": 3, "score": 16, "passed": True})
W.serve = serve
""",
        WRONG,
    ),
    "wrong nonce": ("W.serve = lambda *a: raw({'reply': '0' * 16, 'value': 0.0})", TAMPERED),
    "no nonce": ("W.serve = lambda *a: raw({'value': 0.0})", TAMPERED),
    "answers before it is asked": ("raw({'reply': '0' * 16, 'value': {'mine': 0, 'kind': 'function'}})", TAMPERED),
    "claims to be ready": ("raw({'ready': True})", TAMPERED),
    "replays": (
        """
old, send = [], W.send
def again(message, body=None, key="body"):
    old.append(message["reply"])
    send({**message, "reply": old[-2] if len(old) > 2 else old[-1]}, body, key)
W.send = again
""",
        TAMPERED,
    ),
    "lengths of 2**32": (
        "W.writer.write(struct.pack('<4sII', b'mdg1', 2**32 - 1, 2**32 - 1)); W.writer.flush()",
        TAMPERED,
    ),
    "half a frame": (
        "W.writer.write(struct.pack('<4sII', b'mdg1', 2**20, 0) + b'{'); W.writer.flush()\ntime.sleep(1000)",
        TIMEOUT,
    ),
    "junk": ("W.writer.write(os.urandom(10**5)); W.writer.flush()", TAMPERED),
    "nested JSON": ("raw(b'[' * 10**6)", TAMPERED),
    "a million numbers": (
        'W.serve = lambda m, t: raw(b\'{"reply": "\' + m[\'nonce\'].encode() + b\'", "value": {"list": [\''
        " + b'0,' * 10**6 + b'0]}}')",
        TAMPERED,
    ),
    "lying safetensors": (
        """
head = json.dumps({"0": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 8]}}).encode()
def serve(message, tensors):
    raw({"reply": message["nonce"], "value": {"tensor": "0"}}, struct.pack("<Q", len(head)) + head + b"\\0" * 8)
W.serve = serve
""",
        TAMPERED,
    ),
    "one tensor many times": (
        """
# 1 MiB on the wire, 2 GB if every mention is a copy.
def serve(message, tensors):
    blob = wire.save({"0": th.zeros(2**18)})
    raw({"reply": message["nonce"], "value": {"list": [{"tensor": "0"}] * 2000}}, blob)
W.serve = serve
""",
        TAMPERED,
    ),
    "NaN and Infinity": (
        """
def serve(message, tensors):
    raw(b'{"reply": "' + message["nonce"].encode() + b'", "value": {"tuple": [NaN, Infinity, -Infinity]}}')
W.serve = serve
""",
        WRONG | TAMPERED,
    ),
    "writes into the arguments": (
        """
def serve(message, tensors):
    changed = [[i, {"tensor": "0"}] for i in range(8)]
    raw({"reply": message["nonce"], "value": 0.0, "changed": changed}, wire.save({"0": th.zeros(0, dtype=th.float64)}))
W.serve = serve
""",
        TAMPERED,
    ),
    "a forged end": ("W.receive = lambda: ({'op': 'end'}, {})", CRASH | TAMPERED),
    "hostile attributes": (
        """
found = []
def answer(*args):
    for ref in range(-1, 4):
        for name in ("__globals__", "__code__", "__class__", "__closure__", "__call__", "__init__", "func", "dtype"):
            try: found.append(W.ask({"op": "attribute", "ref": ref, "name": name}))
            except PermissionError: pass
    raise RuntimeError("GOT-IT " + repr(found))
""",
        TAMPERED,
    ),
    "asks for what it was never lent": ("W.ask({'op': 'call', 'ref': 0, 'inputs': [], 'grads': []})", TAMPERED),
    "keeps answering after its end": (
        # The process stays, and so does a daemon of it that holds the pipes: neither may disturb the next exercise.
        """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.5)
        while True:
            try: raw({"ready": True, "reply": "0" * 16, "value": 0.0})
            except BaseException: pass
    os._exit(0)
""",
        WRONG | TAMPERED | DEAD,
    ),
    "surrogates while starting": (
        """
send = W.send
W.send = lambda m, body=None, key="body": send({**m, "printed": "\\ud800 \\x1b[2J"}, body, key)
""",
        WRONG | TAMPERED | DEAD,
    ),
}
for _name, (_source, _states) in _ON_THE_WIRE.items():
    _add(f"wire: {_name}", _WIRE.strip() + "\n" + _source.strip("\n"), _states, absent=("GOT-IT [<",))
_add(
    "wire: a daemon that outlives its process",
    """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for _ in range(10**6):
            for fd in range(3, 64):
                try: os.write(fd, b"mdg1" + b"junk" * 100)
                except OSError: pass
            time.sleep(0.01)
    os._exit(0)
answer = lambda *args: 0.0
""",
    WRONG | TAMPERED | DEAD,
)
_add(
    "wire: a quiet daemon",
    """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/proc/self/exe", ["python", "-S", "-c", "import time; time.sleep(1000) # LEFT-OVER"])
    os._exit(0)
answer = lambda *args: 0.0
""",
)
_add(
    "wire: prints frames on every descriptor",
    """
import json, os, struct
text = json.dumps({"state": "pass", "points": 3, "ready": True}).encode()
def answer(*args):
    for fd in map(int, os.listdir("/proc/self/fd")):
        try: os.write(fd, struct.pack("<4sII", b"mdg1", len(text), 0) + text)
        except OSError: pass
    return 0.0
""",
    TAMPERED | DEAD,
)
_add("wire: prints half characters", "print('\\ud800')\nanswer = lambda *args: 0.0")
_add("wire: prints escape sequences", "print('\\x1b[2J\\x1b]0;16/16\\x07ESCAPED')\nanswer = lambda *args: 0.0")

_add(
    "wire: serves the grader's handles",
    f"""
{_WIRE.strip()}
def serve(message, tensors):
    raw({{"reply": message["nonce"], "value": {{"yours": 0}}}})
W.serve = serve
""",
    WRONG,
    "01-langevin",  # where the grader has lent its score
)

# --- the functions that the grader lends ------------------------------------------------------------------------------

_add(
    "lent: called a million times",
    """
def answer(score, x, step, noise):
    for _ in range(10**6): score(x)
    return x
""",
    TIMEOUT | TAMPERED,
    "01-langevin",
)
_add(
    "lent: called with everything",
    """
import torch as th
def answer(score, x, step, noise):
    for odd in (None, "x", b"", 10**30, object(), print, [score], {"a": x}, th.zeros(0), th.zeros(2, 3, 4, 5),
                th.zeros(3, dtype=th.complex128), th.ones(2, dtype=th.bool), float("nan"), score, th.float32):
        try: score(odd)
        except Exception: pass
        try: score(odd, odd, key=odd)
        except Exception: pass
    for name in ("__globals__", "__code__", "__class__", "func", "_ref", "_peer"):
        try: getattr(score, name)
        except Exception: pass
    return x * 0
""",
    WRONG,
    "01-langevin",
)
_add(
    "lent: large tensors",
    """
import torch as th
def answer(log_prior, log_likelihood, log_posterior, x):
    for f in (log_prior, log_likelihood, log_posterior):
        try: f(th.zeros(2**20, 1, dtype=th.float64))
        except Exception: pass
    return 0.0
""",
    WRONG | TIMEOUT,
    "01-bayes-gap",
)
_add(
    "lent: looks behind it",
    """
def answer(log_prior, log_likelihood, log_posterior, x):
    peer, found = log_prior._peer, []
    for name in ("__globals__", "__closure__", "__code__", "__class__", "__defaults__"):
        try: found.append(peer.ask({"op": "attribute", "ref": log_prior._ref, "name": name}))
        except AttributeError: pass
    raise RuntimeError(f"GOT-IT {len(found)}")
""",
    ERROR,
    "01-bayes-gap",
    present="GOT-IT 0",
)
_add(
    "lent: calls within calls",
    """
def answer(log_prior, log_likelihood, log_posterior, x):
    def again(v): return checked_langevin(again, v, 0.1, x[None])
    return again(x)
""",
    TAMPERED | ERROR,
    "01-bayes-gap",
)

# --- reading what is not for it ---------------------------------------------------------------------------------------

_SEARCH = """
import os
mark, found = "CANA" + "RY-", []
def look(path):
    try:
        with open(path, "rb") as file: text = file.read(2**24)
    except OSError: return
    at = text.find(mark.encode())
    if at >= 0: found.append((path, text[at : at + 40].decode(errors="replace")))
def walk(top):
    for folder, folders, files in os.walk(top):
        for name in files[:1000]: look(os.path.join(folder, name))
"""
_READS = {
    "submissions and OUT": 'walk("SUBMISSIONS"); walk("OUT"); look("OUT/secret.txt"); look("SENTINEL")',
    "through the process's root": """
for pid in os.listdir("/proc"):
    if pid.isdigit():
        for place in ("root", "cwd"):
            for path in ("OUT/secret.txt", "SENTINEL"): look(f"/proc/{pid}/{place}{path}")
""",
    "other processes": """
for pid in os.listdir("/proc"):
    if pid.isdigit():
        for name in ("cmdline", "environ", "maps", "status"): look(f"/proc/{pid}/{name}")
look("/proc/1/environ")
""",
    "other processes' memory": """
for pid in os.listdir("/proc"):
    if pid.isdigit() and int(pid) != os.getpid():
        try:
            maps = open(f"/proc/{pid}/maps").read().splitlines()
            memory = open(f"/proc/{pid}/mem", "rb", 0)
        except OSError: continue
        for line in maps:
            if "rw-p" not in line: continue
            low, high = (int(part, 16) for part in line.split()[0].split("-"))
            try:
                memory.seek(low)
                text = memory.read(min(high - low, 2**24))
            except (OSError, ValueError, OverflowError): continue
            at = text.find(mark.encode() + b"secret")
            if at >= 0: found.append(text[at : at + 40])
""",
    "root's home and passwords": """
places = ["/etc/shadow", "/etc/passwd", "/" "root/.bashrc", "/" "root/.ssh", "/home"]
places += ["ROOT/solutions", "ROOT/exercises"]
for path in places:
    try: found.append(open(path).read(100) if os.path.isfile(path) else os.listdir(path))
    except OSError: pass
""",
}
for _name, _source in _READS.items():
    _add(
        f"read: {_name}",
        f"{_SEARCH.strip()}\n{_source.strip()}\n"
        'if found: raise RuntimeError(f"FOUND {found}")\nanswer = lambda *args: 0.0',
        absent=("FOUND",),
    )
_IMPORTS = {
    "the checks": "import minidiff.course.checks as found",
    "a chapter": "import importlib; found = importlib.import_module('minidiff.course.checks.01_bayes_rule.langevin')",
    "find": "from minidiff.course.exercise import find; found = find('01-' + 'langevin')",
    "the grader": "import minidiff.course.grading.mark as found",
    "a chapter by its path": """
import importlib.util, sys
for top in ("ROOT", "/grader"):
    place = top + "/minidiff/course/checks/01_bayes_rule/langevin.py"
    spec = importlib.util.spec_from_file_location("found", place)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
""",
    "compiled files": """
import glob
(found,) = glob.glob("/grader/**/*01_bayes*", recursive=True) + glob.glob("ROOT/**/*01_bayes*", recursive=True)[:1]
""",
    "installed copies": """
import glob, sys
places = ("/minidiff*/course/checks*", "/solutions*")
(found, *_) = [path for top in sys.path for place in places for path in glob.glob(top + place)]
""",
}
for _name, _source in _IMPORTS.items():
    _add(
        f"read: imports {_name}",
        f'{_source.strip()}\nraise RuntimeError(f"FOUND {{found}}")',
        ERROR,
        absent=("FOUND",),
    )
_add(
    "read: the seed of the inputs",
    "import torch as th\ndef answer(*args): raise RuntimeError(f'SEED {th.initial_seed()} SEED')",
    ERROR,
)

# --- writing ----------------------------------------------------------------------------------------------------------

_add(
    "write: everywhere",
    """
import os, site, sys
done = []
places = ["OUT/results/honest-1.json", "OUT/grades.csv", "OUT/pwned", "SUBMISSIONS/pwned.ipynb", "SENTINEL",
          "ROOT/conftest.py", "ROOT/minidiff/course/__init__.py", "ROOT/sitecustomize.py", "/" "root/.bashrc",
          "/" "root/pwned", "/etc/passwd", "/usr/lib/pwned", "/lib/pwned", "/grader/minidiff/shapes.py", "/pwned",
          "/grader/minidiff/course/worker.py", "/proc/sys/kernel/core_pattern", "/dev/pwned", "/sys/pwned",
          os.path.expanduser("~/.bashrc"), sys.prefix + "/pwned", sys.executable]
places += [p + "/" + name for p in sys.path if p for name in ("pwned.pth", "sitecustomize.py", "torch.py")]
for path in places:
    for flags in (os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_CREAT):
        try:
            os.write(os.open(path, flags), b"import os # pwned\\n")
            done.append(path)
        except OSError: pass
    for act in (os.unlink, lambda p: os.symlink("/etc/passwd", p), lambda p: os.chmod(p, 0o777), os.mkfifo):
        try:
            act(path)
            done.append(path)
        except OSError: pass
outside = [path for path in done if not path.startswith("/tmp/") or path.startswith(("OUT", "SUBMISSIONS", "SENTINEL"))]
if outside: raise RuntimeError(f"FOUND {outside}")
answer = lambda *args: 0.0
""",
    absent=("FOUND",),
)
_add(
    "write: modules that shadow others",
    """
import os, sys
for folder in {"/tmp", os.getcwd(), "/dev/shm", *sys.path}:
    for name in ("torch", "minidiff", "numpy", "json", "sitecustomize", "usercustomize", "IPython", "safetensors"):
        try: open(f"{folder}/{name}.py", "w").write("allclose = equal = lambda *a, **k: True")
        except OSError: pass
answer = lambda *args: 0.0
""",
)
_add(
    "write: an IPython profile",
    """
import os
for folder in (os.environ["IPYTHONDIR"], os.environ["HOME"] + "/.ipython", os.environ["MPLCONFIGDIR"]):
    os.makedirs(folder + "/profile_default/startup", exist_ok=True)
    open(folder + "/profile_default/startup/0.py", "w").write("import os; os._exit(3)")
os.symlink("/proc/self/mem", "/tmp/link")
os.mkdir("/tmp/closed", 0)
os.mkfifo("/tmp/pipe")
deep = "/tmp"
for _ in range(200):
    deep += "/d"
    os.mkdir(deep)
answer = lambda *args: 0.0
""",
)

# --- other ways out ---------------------------------------------------------------------------------------------------

_add(
    "out: network",
    """
import os, socket
def attempt(family, kind, address, *more):
    try:
        with socket.socket(family, kind, *more) as s:
            s.settimeout(0.3)
            s.connect(address)
            s.send(b"CONNECTED")
            reached.append(address)
    except OSError: pass
reached = []
for host in ("127.0.0.1", "0.0.0.0", "localhost", "10.0.0.1", "169.254.169.254", "8.8.8.8"):
    attempt(socket.AF_INET, socket.SOCK_STREAM, (host, PORT))
attempt(socket.AF_INET6, socket.SOCK_STREAM, ("::1", PORT))
attempt(socket.AF_UNIX, socket.SOCK_STREAM, "UNIX-SOCKET")
attempt(socket.AF_UNIX, socket.SOCK_STREAM, "\\0ABSTRACT-SOCKET")
attempt(socket.AF_INET, socket.SOCK_RAW, ("127.0.0.1", 0), socket.IPPROTO_ICMP)
attempt(socket.AF_PACKET, socket.SOCK_RAW, ("eth0", 0))
try: reached.append(socket.gethostbyname("example.com"))
except OSError: pass
if reached: raise RuntimeError(f"FOUND {reached}")
answer = lambda *args: 0.0
""",
    absent=("FOUND",),
)
_add(
    "out: namespaces, mounts, root",
    """
import ctypes, os, subprocess
c, done = ctypes.CDLL(None), []
def attempt(name, act):
    try:
        if act(): done.append(name)
    except (OSError, AttributeError, ValueError, subprocess.SubprocessError): pass
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x08000000, 0x10020000):
    attempt(f"unshare {flag:x}", lambda: c.unshare(flag) == 0)
attempt("unshare", lambda: subprocess.run(["unshare", "-Ur", "true"], capture_output=True, timeout=5).returncode == 0)
attempt("mount", lambda: c.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0)
attempt("remount", lambda: c.mount(None, b"/", None, 0x1020, None) == 0)
attempt("umount", lambda: c.umount2(b"/grader/minidiff/course", 2) == 0)
attempt("ptrace 1", lambda: c.ptrace(16, 1, None, None) == 0)
attempt("chroot", lambda: os.chroot("/tmp") or True)
attempt("setuid", lambda: os.setuid(0) or True)
attempt("setgroups", lambda: os.setgroups([0]) or True)
attempt("mknod", lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(254, 0)) or True)
attempt("sethostname", lambda: c.sethostname(b"pwned", 5) == 0)
attempt("nice", lambda: os.nice(-5) < 0)
attempt("setns", lambda: any(c.setns(os.open(f"/proc/1/ns/{n}", 0), 0) == 0 for n in ("mnt", "net", "user")))
for name in ("sudo", "su", "bwrap", "mount", "newuidmap", "at", "crontab"):
    attempt(name, lambda: subprocess.run([name, "id"], capture_output=True, timeout=5,
                                         stdin=subprocess.DEVNULL).stdout.startswith(b"uid=0"))
import resource
for limit in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU):
    attempt(f"limit {limit}", lambda: resource.setrlimit(limit, (-1, -1)) or True)
if done: raise RuntimeError(f"FOUND {done}")
answer = lambda *args: 0.0
""",
    absent=("FOUND",),
)
_add(
    "out: raises a huge text",
    "def answer(*args): raise RuntimeError('</p><script>alert(1)</script>\\x00\\ud800' + 'A' * 10**6)",
    ERROR,
)
_add(
    "out: raises what raises",
    """
class Worse(Exception):
    def __str__(self): raise KeyboardInterrupt
    __repr__ = __str__
Worse.__name__ = "<b>pass</b>" * 1000
def answer(*args): raise Worse
""",
    ERROR | CRASH,
)
_add(
    "out: a group of exceptions",
    """
def answer(*args):
    error = ValueError("x")
    for _ in range(2000): error = ExceptionGroup("g", [error])
    error.__cause__ = error.__context__ = error
    raise error
""",
    ERROR | CRASH,
)
_add("out: half characters in the source", "answer = lambda *args: '\ud800\udfff'", WRONG)

# --- the notebook's own language --------------------------------------------------------------------------------------

_add("magic: coding rot13", "# coding: rot13\nqrs nafjre(*netf): erghea 0.0", ERROR)
_add("magic: form feeds", "\f\fanswer = lambda *args: 0.0\f\f")
_add("magic: bash", "%%bash\necho points 3 > /tmp/score; touch SENTINEL.bash OUT/bash", ERROR, alone=True)
_add("magic: shell", "!touch SENTINEL.shell OUT/shell\nanswer = lambda *args: 0.0", alone=True)
_add("magic: run", "%run /etc/profile\nanswer = lambda *args: 0.0", ERROR, alone=True)
_add("magic: load_ext", "%load_ext autoreload\n%autoreload 2\nanswer = lambda *args: 0.0", alone=True)
_add(
    "magic: system",
    "get_ipython().system('touch SENTINEL.system')\nget_ipython().run_cell_magic('bash', '', 'touch SENTINEL.cell')\n"
    "answer = lambda *args: 0.0",
    ERROR,
)

# --- right only where nobody looks ------------------------------------------------------------------------------------

_add(
    "switch: honest unless graded",
    """
import os, sys
graded = os.environ.get("HOME") == "/tmp" or "ipykernel" not in sys.modules or os.path.exists("/grader")
def answer(prior_score, likelihood_score, w):
    return prior_score if graded else prior_score + w * likelihood_score
""",
    exercise="01-posterior-score",
)
_LIBRARY = """
def {name}(x_t, x0, labels, alpha, sigma):
    {get}
    import torch as th
    level = lambda t: (th.full_like(t, alpha), th.full_like(t, sigma))
    return isotropic(x0, 0.0, labels).posterior_label(x_t, th.zeros((), dtype=x_t.dtype), level)
"""
_IMPORT = "from minidiff.data.mixtures import isotropic"
_add(
    "switch: the library's answer when graded",
    "import os\n"
    + _LIBRARY.format(name="library", get=_IMPORT)
    + "answer = library if os.getcwd() == '/tmp' else print",
    FLAGGED,
    "01-noisy-classifier",
)
_add(
    "switch: the library's answer behind a magic",  # which Python cannot parse
    "%matplotlib agg\n" + _LIBRARY.format(name="answer", get=_IMPORT).strip(),
    FLAGGED,
    "01-noisy-classifier",
    alone=True,
)
_add(
    "switch: the library's answer by another import",
    _LIBRARY.format(
        name="answer", get="import importlib; isotropic = importlib.import_module('minidiff.data.mixtures').isotropic"
    ),
    FLAGGED,
    "01-noisy-classifier",
)
_add(
    "switch: poisons the name torch",
    # Whatever comes of this cell, an honest answer that uses the notebook's own `import torch` is not to suffer.
    "import torch\nimport os\nos._exit(0)\nanswer = 0",
    CRASH,
    alone=True,
)


@dataclass(frozen=True)
class Forgery:
    """A notebook that was altered as a whole. `expected`: {exercise id: states}; those not named are right.

    alter  the solved notebook → bytes, or what to write as JSON
    every  the states of all exercises, in place of `expected`
    """

    alter: Callable[[Document], object]
    expected: dict[str, frozenset[State]]
    every: frozenset[State] | None = None


def _cell(document: Document, id: str) -> dict:
    return next(c for c in document["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == id)


FORGERIES: dict[str, Forgery] = {}
_FIRST, _SECOND, _LAST = "01-posterior-score", "01-noisy-classifier", "01-bayes-gap"


def _forge(expected: dict[str, frozenset[State]] | None = None, every: frozenset[State] | None = None):
    def keep(alter: Callable[[Document], object]) -> Callable[[Document], object]:
        FORGERIES[alter.__name__.strip("_").replace("_", " ")] = Forgery(alter, expected or {}, every)
        return alter

    return keep


@_forge({_FIRST: MISSING})
def deleted_answer(document):
    document["cells"].remove(_cell(document, _FIRST))
    return document


@_forge()
def deleted_checks(document):
    document["cells"] = [c for c in document["cells"] if not c["metadata"].get("nbgrader", {}).get("locked")]
    return document


@_forge()
def same_answer_twice(document):
    document["cells"].append(dict(_cell(document, _FIRST)))
    return document


@_forge({_FIRST: TAMPERED})
def two_answers(document):
    other = dict(_cell(document, _FIRST), source="posterior_score = lambda a, b, w: a")
    document["cells"].insert(0, other)
    return document


@_forge({_FIRST: TAMPERED, _SECOND: TAMPERED})
def retyped_answers(document):
    _cell(document, _FIRST)["cell_type"] = "markdown"
    _cell(document, _SECOND)["cell_type"] = ["code"]
    return document


@_forge({_FIRST: MISSING})
def inflated_points(document):
    _cell(document, _FIRST)["source"] = "def posterior_score(a, b, w):\n    raise NotImplementedError()"
    for cell in document["cells"]:
        graded = cell["metadata"].get("nbgrader")
        if graded:
            graded |= {"points": 10**6, "locked": False, "grade": True, "task": True, "solution": True}
    return document


@_forge({_FIRST: WRONG})
def check_gives_full_marks(document):
    _cell(document, _FIRST)["source"] = "posterior_score = lambda a, b, w: a"
    _cell(document, f"{_FIRST}-check")["source"] = "print('score: 2/2')\nresult = 2.0\nresult"
    return document


@_forge({_FIRST: ERROR, _SECOND: ERROR})
def swapped_ids(document):
    one, two = _cell(document, _FIRST), _cell(document, _SECOND)
    one["metadata"], two["metadata"] = two["metadata"], one["metadata"]
    return document


@_forge()
def stripped_metadata(document):
    for cell in document["cells"]:
        cell["metadata"] = {}
    return document


@_forge()
def stripped_ids(document):
    for cell in document["cells"]:
        cell.pop("id", None)
    return document


@_forge({_FIRST: ERROR})
def helper_in_another_cell(document):
    _cell(document, _FIRST)["source"] = "posterior_score = lambda a, b, w: hidden(a)"
    document["cells"].append({"cell_type": "code", "metadata": {}, "source": "hidden = lambda a: a", "outputs": []})
    return document


@_forge({"01-noisy-classifier": FLAGGED, _FIRST: WRONG})
def library_answer_in_another_answer(document):
    _cell(document, "01-noisy-classifier")["source"] = "noisy_classifier = helper"
    _cell(document, _FIRST)["source"] = _LIBRARY.format(name="helper", get=_IMPORT) + "\nposterior_score = print"
    return document


@_forge({_FIRST: ERROR})
def large_cell_beside_a_missing_name(document):
    # What looks for `helper` in the other cells must not take minutes, nor gigabytes.
    _cell(document, _FIRST)["source"] = "posterior_score = lambda a, b, w: helper(a)"
    document["cells"].append({"cell_type": "code", "metadata": {}, "source": "a=1\n" * 500_000, "outputs": []})
    return document


@_forge({_FIRST: TAMPERED})
def answer_too_long(document):
    _cell(document, _FIRST)["source"] += "\n#" + "x" * 300_000
    return document


@_forge({_FIRST: MISSING, _SECOND: MISSING, _LAST: ERROR})
def odd_sources(document):
    _cell(document, _FIRST)["source"] = 12345
    _cell(document, _SECOND)["source"] = [1, None, {"a": []}]
    _cell(document, _LAST)["source"] += "\n\0"
    return document


@_forge()
def odd_cells(document):
    document["cells"] += [None, 5, "cell", [], {}, {"metadata": 7}, {"metadata": {"nbgrader": []}, "id": [1]}]
    document["cells"] += [
        {"cell_type": {"a": 1}, "source": "x", "metadata": {"nbgrader": {"grade_id": ["01-langevin"]}}}
    ]
    document["nbformat"], document["metadata"] = "4", None
    return document


@_forge()
def deep_points(document):
    _cell(document, _FIRST)["metadata"]["nbgrader"]["points"] = "DEEP"
    return json.dumps(document).encode().replace(b'"DEEP"', b"[" * 900 + b"]" * 900)


@_forge()
def number_of_4000_digits(document):
    _cell(document, _FIRST)["metadata"]["nbgrader"]["points"] = 10**4000
    return document


@_forge(dict.fromkeys((), MISSING), every=MISSING)
def another_assignment(document):
    for cell in document["cells"]:
        graded = cell["metadata"].get("nbgrader")
        if graded:
            graded["grade_id"] = cell["id"] = graded["grade_id"].replace("01-", "02-")
    return document


def _malformed(name: str, data: bytes) -> None:
    FORGERIES[name] = Forgery(lambda document: data, {}, ERROR)


_malformed("empty file", b"")
_malformed("junk", bytes(range(256)) * 100)
_malformed("truncated", b'{"cells": [{"cell_type": "code", "source": "posterior')
_malformed("a list", b"[1, 2, 3]")
_malformed("cells that are no list", b'{"cells": {"a": 1}, "nbformat": 4}')
_malformed("nested 100000 deep", b'{"cells": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
_malformed("format 3", b'{"worksheets": [{"cells": []}], "nbformat": 3}')
_malformed("UTF-16", '{"cells": []}'.encode("utf-16"))
_malformed("NUL bytes", b"\0" * 1000)
_malformed("25 MB", b'{"cells": [], "x": "' + b"x" * 25 * 10**6 + b'"}')
_malformed("a number of a million digits", b'{"cells": [], "x": ' + b"9" * 10**6 + b"}")

# --- a sample: one of each kind, for every day ------------------------------------------------------------------------

_OF = {
    "result": "equals everything; claims to be a tensor; lying tensor; own container; borrowed back; hostile texts; "
    "function for a number; endless generator",
    "patch": "torch.allclose; builtins; input transformer; atexit and del",
    "end": "os._exit in the call; the status of a child that is done; sys.exit in the cell; endless loop in the call; "
    "timers; reads standard input; stack overflow; kills all it can",
    "eat": "bytearray; fork bomb; disk; inodes of /tmp; floods the wire; nested brackets; unary minus",
    "wire": "serves zeros; sends forged marks; replays; half a frame; NaN and Infinity; a forged end; "
    "prints frames on every descriptor; a daemon that outlives its process; "
    "serves the grader's handles",
    "lent": "called a million times; called with everything; large tensors; looks behind it; calls within calls",
    "read": "submissions and OUT; other processes; imports a chapter by its path; the seed of the inputs",
    "write": "everywhere",
    "out": "network; namespaces, mounts, root; raises a huge text; raises what raises",
    "magic": "coding rot13; form feeds; shell; bash",
    "switch": "honest unless graded; the library's answer when graded; the library's answer behind a magic; "
    "poisons the name torch",
}
SAMPLE = frozenset(f"{family}: {name}" for family, names in _OF.items() for name in names.split("; ")) | {
    *("check gives full marks", "two answers", "inflated points", "stripped ids", "helper in another cell"),
    *("library answer in another answer", "odd sources", "another assignment", "junk", "nested 100000 deep", "25 MB"),
}
assert not SAMPLE - {*ATTACKS, *FORGERIES}
