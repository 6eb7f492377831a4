"""Ways of writing a model space that an export has to read, or to refuse by name."""

from __future__ import annotations

import importlib
import itertools
import linecache
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import cloudpickle
import pytest
import torch
from exported_spaces import X, made

from lightning_nas import errors
from lightning_nas.export import source_of
from lightning_nas.mutables import blueprint

HEAD = """
import torch
import torch.nn.functional as F
import lightning_nas.nn as nn
from lightning_nas import model_wrapper
"""

_packages = itertools.count()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a package of modules, imports its `main`, and gives the model space there."""

    def load(main: str, **others: str) -> torch.nn.Module:
        name = f"exported_package_{next(_packages)}"
        folder = tmp_path / name
        folder.mkdir()
        for module, text in {"__init__": "", **others, "main": HEAD + textwrap.dedent(main)}.items():
            (folder / f"{module}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        module = importlib.import_module(f"{name}.main")
        return getattr(module, "net", None) or module.Net()

    return load


def exported(net: torch.nn.Module, sample: dict | None = None) -> str:
    """The source of a few samples, each checked against the model; the last one is returned."""
    for each in [net.sample(seed) for seed in range(4)] if sample is None else [sample]:
        source = source_of(blueprint(net), each)
        model, other = net.build(each), made(source)
        other.load_state_dict(model.state_dict())
        for training in (False, True):
            torch.manual_seed(0)
            expected = model.train(training)(X)
            torch.manual_seed(0)
            assert torch.equal(expected, other.train(training)(X))
    return source


OP = 'nn.LayerChoice([nn.Tanh(), nn.ReLU()], label="a")'


def net_of(*lines: str, forward: str = "self.op(x)", before: str = "") -> str:
    """A module with a class `Net` whose constructor runs `lines`."""
    body = "\n".join(f"        {line}" for line in lines)
    return (
        f"{textwrap.dedent(before)}\n@model_wrapper\nclass Net(nn.Module):\n    def __init__(self):\n"
        f"        super().__init__()\n{body}\n    def forward(self, x):\n        return {forward}\n"
    )


BLOCK = """
class Block(nn.Module):
    def forward(self, x): return x * 3
"""

READ = {
    "a constant of a module": (
        net_of(f"self.op = nn.Sequential(nn.Conv2d(3, config.WIDTH, 1), config.ACTS['relu'](), {OP})",
               before="from . import config"),
        {"config": "from torch import nn\nWIDTH = 5\nACTS = {'relu': nn.ReLU}\n"},
    ),
    "a member of a module under the name of a variable": (
        net_of("conv = P.conv", "WIDTH = P.WIDTH", "self.op = nn.LayerChoice([make(W), conv(WIDTH)])",
               before="from . import parts as P\nfrom .parts import conv as make, WIDTH as W"),
        {"parts": "from torch import nn\nWIDTH = 4\ndef conv(c): return nn.Conv2d(3, c, 1)\n"},
    ),
    "names of other names": (
        net_of("self.op = nn.LayerChoice([Block(), nn2.ReLU()], label='a')", forward="tanh(self.op(x))",
               before="from .api import Block, nn2, tanh"),
        {"api": "from .deep import Block as Block\nfrom torch import nn as nn2, tanh\n",
         "deep": "from torch import nn\nclass Block(nn.Tanh): pass\n"},
    ),
    "all names of torch.nn": (
        net_of("self.op = Sequential(Conv2d(3, 4, 1), nn.LayerChoice([ReLU(), Tanh()], label='a'))",
               before="from torch.nn import *\nimport lightning_nas.nn as nn"),
        {},
    ),
    "all names of a module": (
        net_of("self.op = nn.LayerChoice([Part(W), nn.Tanh()], label='a')", before="from .parts import *"),
        {"parts": "from torch.nn import Conv2d\nW = 3\nclass Part(Conv2d):\n"
                  "    def __init__(self, c): super().__init__(3, c, 1)\n"},
    ),
    "a base that names its subclass": (
        net_of("self.op = nn.LayerChoice([Special(), nn.Tanh()], label='a')", "self.base = Base()", before="""
            class Base(nn.Module):
                def is_special(self): return isinstance(self, Special)
            class Special(Base):
                def forward(self, x): return x * 2
            """),
        {},
    ),
    "a class that is made of itself": (
        net_of("self.op = Tree(2)", before="""
            class Tree(nn.Module):
                def __init__(self, depth):
                    super(Tree, self).__init__()
                    self.rest = nn.ModuleList([Tree(depth - 1)] if depth else [])
                    self.act = nn.LayerChoice([nn.Tanh(), nn.ReLU()], label=f"t{depth}")
                def forward(self, x):
                    for each in self.rest: x = each(x)
                    return self.act(x)
            """),
        {},
    ),
    "choices inside constants": (
        net_of("self.op = nn.LayerChoice({k: OPS[k](3) for k in OPS}, label='a')", before="""
            OPS = {
                "none": lambda c: nn.Zero(),
                "conv": lambda c: nn.Conv2d(c, c, nn.ValueChoice([1, 3], label="k"), padding="same"),
            }
            """),
        {},
    ),
    "constants that are changed in place": (
        net_of("self.op = nn.LayerChoice({k: OPS[k]() for k in OPS}, label='a')", "self.f = FLAG()",
               "self.n = len(KINDS) + B", forward="self.f(self.op(x)) * self.n", before="""
            OPS = {"tanh": nn.Tanh}
            OPS["relu"] = nn.ReLU
            OPS.update(conv=lambda: nn.Conv2d(3, 3, 1))
            KINDS = ["tanh"]
            KINDS += ["relu"]
            if True:
                FLAG = nn.Tanh
            A, B = nn.ReLU, 4
            """),
        {},
    ),
    "classes that register themselves": (
        net_of("self.op = nn.LayerChoice({k: v() for k, v in REGISTRY.items()}, label='a')", before="""
            REGISTRY = {}
            def register(cls):
                REGISTRY[cls.__name__] = cls
                return cls
            @register
            class One(nn.Module):
                def forward(self, x): return x + 1
            @register
            class Two(nn.Module):
                def forward(self, x): return x + 2
            """),
        {},
    ),
    "decorated functions": (
        net_of(f"self.op = {OP}", "self.n = width(2) + helper(1)", forward="self.op(x) * self.n", before="""
            import functools
            def twice(f):
                @functools.wraps(f)
                def g(*args): return 2 * f(*args)
                return g
            @functools.lru_cache
            def width(n): return n + 2
            @twice
            def helper(n): return n + 1
            """),
        {},
    ),
    "values from the function around": (
        """
        width = 99
        def make(width):
            scale = 2
            from torch import nn as torch_nn
            class Base(torch_nn.Module): pass
            @model_wrapper
            class Net(Base):
                factor = scale
                def __init__(self, start=scale):
                    super().__init__()
                    self.op = nn.LayerChoice([torch_nn.Conv2d(3, width, 1), nn.Tanh()], label="a")
                    self.start = start
                def forward(self, x): return self.op(x) * self.factor + self.start
            return Net
        Net = make(4)
        """,
        {},
    ),
    "text at the start of a line": (
        '''
        def make():
            @model_wrapper
            class Net(nn.Module):
                TEXT = """first
        second"""
        # a comment
                def __init__(self):
                    super().__init__()
                    self.n = len(self.TEXT)
                    self.op = nn.LayerChoice([nn.ReLU(), nn.Tanh()], label="a")
                def forward(self, x): return self.op(x) * self.n
            return Net
        Net = make()
        ''',
        {},
    ),
    "the package by other names": (
        """
        import lightning_nas as ln
        from lightning_nas import mutables
        @ln.model_wrapper
        class Net(ln.nn.Module):
            def __init__(self):
                super().__init__()
                self.op = mutables.LayerChoice([ln.nn.Conv2d(3, 3, 1), ln.nn.Tanh()], label="a")
                self.more = ln.nn.Repeat(ln.nn.Tanh(), (1, 2), label="r")
            def forward(self, x): return self.more(self.op(x))
        """,
        {},
    ),
    "local names like those of modules": (
        net_of(f"self.op = {OP}", forward="(lambda blocks: blocks.relu(self.op(x)))(torch)", before="""
            from . import blocks
            def unrelated():
                from os.path import join as F
                return F
            """),
        {"blocks": "def relu(x): return x\n"},
    ),
    "values in expressions": (
        net_of("self.p = nn.ValueChoice([-1, -2], label='p') ** 2",
               "self.q = nn.ValueChoice([1, 2], label='q').bit_length()",
               "self.r = len(f\"{nn.ValueChoice(['x', 'yy'], label='r')}-\")",
               "self.s = nn.ValueChoice.condition(nn.ValueChoice([1, 2], label='s') > 1, 1, 2) * 3",
               forward="x * self.p * self.q * self.r * self.s"),
        {},
    ),
    "every kind of block to repeat": (
        net_of("block = nn.Conv2d(3, 3, 1)", "blocks = [nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Tanh()]",
               "self.a = nn.Repeat(block, (1, 3), label='a')", "self.b = nn.Repeat(blocks, (1, 3), label='b')",
               "self.c = nn.Repeat([block, lambda i: nn.Tanh()], (1, 2), label='c')",
               "self.d = nn.Repeat([nn.Conv2d(3, 3, 1) for _ in range(3)], (1, 3), label='d')",
               "self.e = nn.Repeat(partial(conv, 1), (1, 3), label='e')",
               "self.f = nn.Repeat(many(3), (1, 3), label='f')",
               "self.g = nn.Repeat(nn.Tanh(), nn.ValueChoice([1, 2], label='g'))",
               "self.h = nn.ModuleList(nn.Repeat(lambda i: nn.Tanh(), (1, 3), label=f'h{j}') for j in range(2))",
               forward="self.h[1](self.h[0](self.g(self.f(self.e(self.d(self.c(self.b(self.a(x)))))))))", before="""
            from functools import partial
            def conv(k, i): return nn.Conv2d(3, 3, k)
            def many(n): return [nn.Conv2d(3, 3, 1) for _ in range(n)]
            """),
        {},
    ),
    "candidates made in every way": (
        net_of("self.a = nn.LayerChoice({n: OPS[n]() for n in OPS}, label='a')",
               "self.b = nn.LayerChoice(OPS, label='b')", "self.c = nn.LayerChoice([OPS[n]() for n in OPS])",
               "self.d = nn.LayerChoice(dict(x=nn.Tanh(), y=nn.ReLU()), label='d')",
               "self.e = nn.ModuleList([nn.LayerChoice(OPS, label=f'e{i}') for i in range(3)])",
               "self.f = nn.LayerChoice([lambda c=3: nn.Conv2d(3, c, 1), nn.ReLU], label='f')",
               forward="self.f(self.e[2](self.e[1](self.e[0](self.d(self.c(self.b(self.a(x))))))))", before="""
            OPS = {"tanh": nn.Tanh, "relu": nn.ReLU, "conv": lambda: nn.Conv2d(3, 3, 1)}
            """),
        {},
    ),
    "choices made in candidates that are not chosen": (
        net_of("self.op = nn.LayerChoice([nn.Sequential(block(i), block(i + 10)) for i in range(3)], label='a')",
               before="""
            def block(i): return nn.LayerChoice([nn.Tanh(), nn.ReLU(), nn.Conv2d(3, 3, 1)], label=f"in{i}")
            """),
        {},
    ),
    "branches that are not taken": (
        net_of("if nn.ValueChoice([True, False], label='deep'):", f"    self.op = {OP}", "else:",
               "    self.op = nn.Dropout(nn.ValueChoice([0.1, 0.2], label='p'))", "if len(str(self)) == 0:",
               "    self.never = nn.Repeat(nn.Tanh(), (1, 2), label='never')"),
        {},
    ),
    "candidates over several lines": (
        net_of("self.op = nn.LayerChoice(", "    [", "        (", "            nn.Tanh()", "            if True",
               "            else nn.ReLU()", "        ),", "        lambda: nn.Sequential(nn.Tanh())",
               "        if True", "        else nn.ReLU(),", "    ],", "    label='a',", ")"),
        {},
    ),
    "letters beyond ASCII": (
        net_of('t = "äöü"; self.op = nn.Conv2d(3, GRÖSSE, nn.ValueChoice([1, 3], label="ö"), padding="same")',
               "self.n = len(t)",
               forward="self.op(x) * self.n", before="GRÖSSE = 3  # Größe"),
        {},
    ),
    "classes, enumerations and data classes as arguments": (
        BLOCK + """
import enum
from dataclasses import dataclass
class Kind(enum.Enum):
    A = 1
    B = 2
@dataclass(frozen=True)
class Config:
    width: int = 4
    kinds: tuple = (Kind.A,)
@model_wrapper
class Net(nn.Module):
    def __init__(self, config, act, norm=nn.Identity, block=None, name="n"):
        super().__init__()
        self.op = nn.LayerChoice([nn.Conv2d(3, config.width, 1), nn.Tanh()], label="a")
        self.rest = nn.Sequential(act(), block())
        self.n = config.kinds[0].value
    def forward(self, x): return self.rest(self.op(x)) * self.n
net = Net(Config(width=5, kinds=(Kind.B,)), nn.GELU, norm=nn.BatchNorm2d, block=Block, name="x'y")
""",
        {},
    ),
    "cells with all their options": (
        net_of("ops = [lambda n, k, s: nn.Tanh(), lambda n, k, s: nn.Conv2d(3, 3, 1), lambda n, k, s: nn.Zero()]",
               "before, after = lambda xs: [xs[0] * 2, xs[1]], lambda out, xs: out.relu()",
               "for n in ('one', 'two'):",
               "    cell = nn.Cell(ops, 2, 2, 2, [2, 3], before, after, 2, label=n, distinct=True)",
               "    self.add_module(n, cell)",
               "self.three = nn.Cell({'conv': nn.Conv2d(3, 3, 1), 'tanh': nn.Tanh()}, num_nodes=2, label='three')",
               forward="self.three(self.one(x, x) + self.two(x, x))"),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_it_is_read(name: str, load) -> None:
    main, others = READ[name]
    exported(load(main, **others))


REFUSED = {
    "functions of one name": (
        net_of(f"self.op = {OP}", "self.n = floor(4.5)", forward="half(self.op(x))",
               before="from math import floor\nfrom .other import half"),
        {"other": "from torch import floor\ndef half(x): return floor(x)\n"},
        r"Two different things are called 'floor'.*math\.floor and torch.*rename",
    ),
    "classes of one name": (
        BLOCK + net_of("self.op = nn.LayerChoice([nn.Sequential(Block(), Wrap()), Wrap()], label='a')",
                       before="from .other import Wrap"),
        {"other": "from torch import nn\nclass Block(nn.Tanh): pass\ndef Wrap(): return Block()\n"},
        "Two different things are called 'Block'.*rename",
    ),
    "a choice under a name of its own": (
        net_of("V = nn.ValueChoice", "self.op = nn.Conv2d(3, V([3, 4], label='w'), 1)"),
        {},
        r"Net \(.*main.py:\d+\) uses ValueChoice otherwise than by calling it",
    ),
    "what belongs to a search": (
        net_of(f"self.op = {OP}", "self.space = SearchSpace", before="from lightning_nas.space import SearchSpace"),
        {},
        "uses SearchSpace of lightning-nas",
    ),
    "what depends on a call that has ended": (
        """
        def make(layer):
            @model_wrapper
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.op = nn.LayerChoice([layer, nn.ReLU()], label="a")
                def forward(self, x): return self.op(x)
            return Net
        Net = make(nn.Tanh())
        """,
        {},
        "'layer', which Net .* uses, is of type Tanh, which cannot be written as source",
    ),
    "arguments with * or **": (
        net_of("self.op = nn.LayerChoice(*[[nn.Tanh(), nn.ReLU()]], label='a')"),
        {},
        r"main.py:\d+ is called with \* or \*\*",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(name: str, load) -> None:
    main, others, message = REFUSED[name]
    net = load(main, **others)
    with pytest.raises(errors.ExportError, match=message):
        source_of(blueprint(net), net.search_space.default())


def test_text_that_spans_lines_keeps_its_layout(load) -> None:
    net = load(
        """
        @model_wrapper
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.op = nn.LayerChoice(
                    [
                        nn.Sequential(
                            nn.Conv2d(3, 3, 1),  # a comment inside
                            nn.ReLU(),
                        ),
                        nn.Tanh(),
                    ],
                    label="a",
                )

            def forward(self, x):
                return self.op(x)
        """
    )
    assert textwrap.dedent(
        """\
        # first
                self.op = nn.Sequential(
                    nn.Conv2d(3, 3, 1),  # a comment inside
                    nn.ReLU(),
                )
        """
    ).partition("\n")[2] in exported(net, {"a": 0})


def test_definitions_keep_the_users_order_with_the_model_last(load) -> None:
    source = exported(
        load(
            BLOCK + net_of("self.op = nn.LayerChoice([Block(), helper()], label='a')", "self.more = helper()",
                           "self.rest = nn.Sequential(Block(), Part())", forward="self.rest(self.more(self.op(x)))",
                           before="from .parts import Part\ndef helper(): return nn.Tanh()"),
            parts="from torch import nn\nclass Part(nn.ReLU): pass\n",
        )
    )  # fmt: skip
    order = [source.index(each) for each in ("class Part", "class Block", "def helper", "class Net")]
    assert order == sorted(order)


SCRIPT = """
import sys, cloudpickle
import lightning_nas.nn as nn
from lightning_nas import model_wrapper
from lightning_nas.mutables import blueprint
WIDTH = 4
class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 1)
    def forward(self, x): return self.conv(x)
# -- next cell
@model_wrapper
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.op = nn.LayerChoice([Block(WIDTH), nn.Tanh()], label="a")
    def forward(self, x): return self.op(x)
# -- next cell
if __name__ == "__main__":
    open(sys.argv[1], "wb").write(cloudpickle.dumps(blueprint(Net())))
"""


@pytest.mark.slow
def test_a_space_pickled_by_a_script_is_read_in_another_process(tmp_path: Path) -> None:
    script, pickled = tmp_path / "script.py", tmp_path / "blueprint.pkl"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, str(script), str(pickled)], check=True)
    source = source_of(cloudpickle.loads(pickled.read_bytes()), {"a": 0})
    assert made(source).op.conv.weight.shape[0] == 4


def test_a_space_of_a_notebook_is_read_from_its_cells() -> None:
    notebook = types.ModuleType("notebook_of_a_test")
    sys.modules[notebook.__name__] = notebook
    try:
        for number, cell in enumerate([*SCRIPT.split("# -- next cell\n")[:2], "net = Net()\n"]):
            file = f"<ipython-input-{number}-export>"
            linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
            exec(compile(cell, file, "exec"), vars(notebook))
        source = source_of(blueprint(notebook.net), {"a": 0})
    finally:
        del sys.modules[notebook.__name__]
    assert made(source).op.conv.weight.shape[0] == 4
