"""The engine of `jupiter bench fuzz`: one target in one process, inputs from atheris where it is installed.

    python -m jupiter_agent.bench.fuzzing TARGET CORPUS SECONDS SEED

With atheris (coverage-guided, libFuzzer) the decoders are instrumented. Without, inputs are mutated here, and kept when
they reach new lines. Both put what they keep into the folder CORPUS, write a report beside it (CORPUS.json), and stop
at the first finding. `covered` runs a corpus again under a tracer: lines of the decoders reached, and those missed.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import random
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from jupiter_agent.bench.fuzz_targets import TARGETS, Target

MOST_BYTES = 8192
REPORT_EVERY = 500
OURS = str(Path(__file__).parents[1])

Line = tuple[types.CodeType, int]


def try_one(target: Target, data: bytes) -> str:
    """'' or what was raised that may not be."""
    try:
        target.run(data)
    except target.may_raise:
        return ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        return f"{type(error).__name__}: {str(error)[:200]}"
    return ""


# --- lines -------------------------------------------------------------------------------------------------------


def functions_of(things: Iterable[Any]) -> list[types.FunctionType]:
    """The functions in modules and classes, and those named themselves."""
    found: list[types.FunctionType] = []
    todo: list[Any] = list(things)
    while todo:
        thing = todo.pop()
        if inspect.ismodule(thing):
            todo += [v for v in vars(thing).values() if getattr(v, "__module__", "") == thing.__name__]
        elif inspect.isclass(thing):
            todo += [v.fget if isinstance(v, property) else v for v in vars(thing).values()]
        elif isinstance(thing, classmethod | staticmethod | types.MethodType):
            todo.append(thing.__func__)
        elif inspect.isfunction(thing) and thing not in found and thing.__code__.co_filename.startswith(OURS):
            found.append(thing)
    return found


def code_of(things: Iterable[Any]) -> set[types.CodeType]:
    """The code of those functions, with what is defined inside them."""
    found: set[types.CodeType] = set()
    todo: list[Any] = [function.__code__ for function in functions_of(things)]
    while todo:
        code = todo.pop()
        if isinstance(code, types.CodeType) and code not in found:
            found.add(code)
            todo += code.co_consts
    return found


def lines_of(codes: Iterable[types.CodeType]) -> set[Line]:
    """Every line with code, but those of `def` themselves."""
    return {(code, at) for code in codes for *_, at in code.co_lines() if at and at != code.co_firstlineno}


def traced(run: Callable[[], object], codes: set[types.CodeType]) -> set[Line]:
    """The lines of these functions that were run."""
    reached: set[Line] = set()

    def local(frame: types.FrameType, event: str, _: Any) -> Any:
        reached.add((frame.f_code, frame.f_lineno))
        return local

    def begin(frame: types.FrameType, event: str, _: Any) -> Any:
        return local if frame.f_code in codes else None

    before = sys.gettrace()
    sys.settrace(begin)
    try:
        run()
    finally:
        sys.settrace(before)
    return reached


def covered(name: str, corpus: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Of a corpus: by module, lines reached and lines there are; and where the missed ones are (file:line)."""
    target = TARGETS[name]
    codes = code_of(target.covers)
    wanted, reached = lines_of(codes), set[Line]()
    for data in [*target.seeds(), *(path.read_bytes() for path in sorted(corpus.iterdir()))]:
        reached |= traced(lambda data=data: try_one(target, data), codes)  # type: ignore[misc]
    here, there = ({(Path(code.co_filename).name, at) for code, at in lines} for lines in (wanted & reached, wanted))
    modules = {
        module: (sum(file == module for file, _ in here), sum(file == module for file, _ in there))
        for module in sorted({file for file, _ in there})
    }
    return modules, [f"{file}:{at}" for file, at in sorted(there - here)]


# --- inputs ------------------------------------------------------------------------------------------------------


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four small changes."""
    content = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at, width = rng.randrange(len(content) + 1), 1 + int(rng.expovariate(0.3))
        match rng.randrange(7):
            case 0:
                content[at : at + 1] = bytes([rng.choice([0, 1, 0x7F, 0x80, 0xC0, 0xDC, 0xFF, rng.randrange(256)])])
            case 1:
                del content[at : at + width]
            case 2:
                content[at:at] = rng.randbytes(width)
            case 3:
                content[at:at] = content[rng.randrange(len(content) + 1) :][: width * 4]
            case 4:
                other = rng.choice(others)
                begin = rng.randrange(len(other) + 1)
                content[at : at + width] = other[begin : begin + rng.randrange(1, 40)]
            case 5 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case _:
                content[at : at + width] = rng.choice([b"-1", b"1e999", b"\xff\xff\xff\xff", b"../", b"\n", b"[", b"{"])
    return bytes(content[:MOST_BYTES])


def endless(target: Target, corpus: Path, seed: int) -> Iterator[bytes]:
    """Seeds, then mutations for ever; one in twenty is traced, and kept if it reached a new line."""
    rng, codes = random.Random(seed), code_of(target.covers)
    kept = [data for data in target.seeds() if len(data) < MOST_BYTES // 2]
    reached = set[Line]()
    for data in kept:
        reached |= traced(lambda data=data: try_one(target, data), codes)  # type: ignore[misc]
    while True:
        data = mutated(rng.choice(kept), kept, rng)
        if rng.random() < 0.05:
            new = traced(lambda data=data: try_one(target, data), codes)  # type: ignore[misc]
            if not new <= reached:
                reached |= new
                kept.append(data)
                keep(corpus, data)
        yield data


def keep(corpus: Path, data: bytes) -> None:
    (corpus / hashlib.sha256(data).hexdigest()[:24]).write_bytes(data)


# --- one process -------------------------------------------------------------------------------------------------


class Session:
    """Counts inputs, writes the report now and then, stops at a finding."""

    def __init__(self, name: str, corpus: Path, engine: str) -> None:
        self._target, self._corpus = TARGETS[name], corpus
        self.report: dict[str, Any] = {"target": name, "engine": engine, "inputs": 0, "finding": "", "input": ""}

    def give(self, data: bytes) -> None:
        self.report["inputs"] += 1
        finding = try_one(self._target, data)
        if finding:
            self.report |= {"finding": finding, "input": data.hex()}
            self.save()
            raise SystemExit(1)
        if self.report["inputs"] % REPORT_EVERY == 0:
            self.save()

    def save(self) -> None:
        self._corpus.with_suffix(".json").write_text(json.dumps(self.report))


def own(name: str, corpus: Path, seconds: float, seed: int) -> None:
    session, end = Session(name, corpus, "own"), time.monotonic() + seconds
    for data in endless(TARGETS[name], corpus, seed):
        session.give(data)
        if time.monotonic() >= end:
            break
    session.save()


def with_atheris(atheris: Any, name: str, corpus: Path, seconds: float, seed: int) -> None:
    """Does not return: libFuzzer ends the process."""
    session = Session(name, corpus, "atheris")
    for function in functions_of(TARGETS[name].covers):
        atheris.instrument_func(function)
    for data in TARGETS[name].seeds():
        if len(data) < MOST_BYTES // 2:  # large ones are slow; `covered` runs them
            keep(corpus, data)
    options = [f"-max_total_time={max(1, round(seconds))}", f"-seed={seed + 1}", f"-max_len={MOST_BYTES}"]
    quiet = ["-rss_limit_mb=0", "-verbosity=0", "-print_final_stats=0", f"-artifact_prefix={corpus}-"]
    atheris.Setup([sys.argv[0], *options, *quiet, str(corpus)], session.give)
    atheris.Fuzz()


def main(arguments: list[str]) -> None:
    name, folder, seconds, seed = arguments
    corpus = Path(folder)
    corpus.mkdir(parents=True, exist_ok=True)
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        own(name, corpus, float(seconds), int(seed))
    else:
        with_atheris(atheris, name, corpus, float(seconds), int(seed))


if __name__ == "__main__":
    main(sys.argv[1:])
