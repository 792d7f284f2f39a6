"""Switches off the checks of the reading side one by one, in the functions that everybody holds already.

A function's code is compiled anew from its source with one check less, and put in place of the old code.
"""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType

from lottery_hub.storage import codec, files, folder, manifest, places, rice

WRITING = {"encode", "_floats_of", "_encode_floats"}


@dataclass(frozen=True)
class Check:
    """One check: a condition that raises, one of several joined by `or`, or an error that is reported as another."""

    function: FunctionType
    source: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}: {self.text}"


def checks() -> list[Check]:
    """Return every check of the modules that read folders."""
    found = []
    for module in (rice, files, codec, manifest, places, folder):
        for function in _functions(module):
            source = inspect.getsource(function)
            found += [
                Check(function, source, number, text) for number, (_, text) in enumerate(_sites(ast.parse(source)))
            ]
    return found


@contextmanager
def disabled(check: Check) -> Iterator[None]:
    """Run the block without the check."""
    function, before = check.function, check.function.__code__
    tree = ast.parse(check.source)
    change, _ = list(_sites(tree))[check.number]
    change()
    function.__code__ = _code(tree, function)
    try:
        yield
    finally:
        function.__code__ = before


def _functions(module: ModuleType) -> list[FunctionType]:
    return [
        one
        for one in vars(module).values()
        if isinstance(one, FunctionType) and one.__module__ == module.__name__ and one.__name__ not in WRITING
    ]


def _sites(tree: ast.Module) -> Iterator[tuple[Callable[[], object], str]]:
    """Yield for each check what removes it from the tree, and its text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise):
            test = node.test
            if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
                for place, value in enumerate(test.values):
                    yield (
                        (lambda test=test, place=place: test.values.__setitem__(place, ast.Constant(False))),
                        (ast.unparse(value)),
                    )
            else:
                yield (lambda node=node: setattr(node, "test", ast.Constant(False))), ast.unparse(test)
        elif isinstance(node, ast.ExceptHandler) and isinstance(node.body[-1], ast.Raise):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            for place, kind in enumerate(kinds):
                kept = ast.Tuple([*kinds[:place], *kinds[place + 1 :]], ast.Load())
                yield (lambda node=node, kept=kept: setattr(node, "type", kept)), f"except {ast.unparse(kind)}"
        elif isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Raise):
            yield (lambda node=node: node.body.__setitem__(-1, ast.Pass())), "at the end"


def _code(tree: ast.Module, function: FunctionType) -> CodeType:
    compiled = compile(
        ast.fix_missing_locations(copy.deepcopy(tree)), inspect.getfile(function), "exec", dont_inherit=True
    )
    return next(one for one in compiled.co_consts if isinstance(one, CodeType) and one.co_name == function.__name__)
