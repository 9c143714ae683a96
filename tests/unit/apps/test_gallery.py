"""The gallery: every app lints clean, gives the results it promises, and those are right by another way of counting."""

import hashlib
import itertools
import json
import math
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from app_evaluation import evaluate

from jupiter_agent.adapters.bundle import check_folder
from jupiter_agent.apps.lint import lint
from jupiter_agent.apps.templates import template

APPS = Path(__file__).resolve().parents[3] / "app_specific_files"
GALLERY = ["router", "many-sources", "v5-minimal", "v4-minimal", "c-tasks", "images", "two-homes"]


def contents(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob(pattern) if p.is_file()}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    scratch = tmp_path_factory.mktemp("gallery")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(scratch))  # where c-tasks builds
        return {app: evaluate(APPS / app, scratch / app) for app in GALLERY}


@pytest.mark.parametrize("app", GALLERY)
def test_lint_finds_nothing(app: str) -> None:
    assert lint(APPS / app, offline=True) == []


@pytest.mark.parametrize("app", GALLERY)
def test_every_app_says_what_it_is_and_whose_its_data_are_and_stays_small(app: str) -> None:
    readme = (APPS / app / "README.md").read_text()
    assert readme.startswith(f"# {app}")
    assert "free to" in readme or (APPS / app / "DATA-LICENSE").is_file()
    assert sum(map(len, contents(APPS / app).values())) < 1_000_000


@pytest.mark.parametrize("app", GALLERY)
def test_results_are_those_that_are_checked_in(app: str, results) -> None:
    if app == "images":
        assert digests(results[app]) == json.loads((APPS / app / "expected.json").read_text())
    else:
        assert results[app] == contents(APPS / app / "expected")
    assert results[app]


def digests(found: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in sorted(found.items())}


@pytest.mark.parametrize("contract", ["v5", "v4"])
def test_the_minimal_apps_are_what_init_writes(contract: str) -> None:
    folder = APPS / f"{contract}-minimal"
    written = {path: data for path, data in contents(folder).items() if not path.startswith("expected/")}
    assert written == {path: text.encode() for path, text in template(contract, folder.name).items()}


# --- router --------------------------------------------------------------------------------------------------


def test_the_router_sends_each_sample_to_those_who_can_read_it(results) -> None:
    heard = {path.split("/")[0]: set(json.loads(data)) for path, data in results["router"].items()}
    assert heard == {
        "mesh.json": {"keys"},
        "note.json": {"keys", "words"},
        "runs.csv": {"columns"},
        "peers.txt": {"words"},
    }
    silent = {Path(sample).name for sample in check_folder(APPS / "router").samples} - set(heard)
    assert silent == {"digits.txt", "noise.bin"}


# --- many sources --------------------------------------------------------------------------------------------


def parts_of(hour: int) -> dict[str, bytes]:
    return {sensor: (APPS / f"many-sources/parts/{sensor}/hour-{hour}").read_bytes() for sensor in ("thermo", "hygro")}


def test_parts_fed_separately_give_what_whole_samples_give(tmp_path, results) -> None:
    items = {f"hour-{hour}": parts_of(hour) for hour in range(6)}
    assert evaluate(APPS / "many-sources", tmp_path, items) == results["many-sources"]
    alone = {"hour-5": {"thermo": parts_of(5)["thermo"]}}
    assert evaluate(APPS / "many-sources", tmp_path / "x", alone) == {"hour-5/dew/dew": b'{"missing": "hygro"}'}


def test_at_the_dew_point_the_air_is_saturated(results) -> None:
    """Vapour pressure at the dew point equals the actual one (Sonntag's constants, hPa)."""

    def saturated(celsius: float) -> float:
        return 6.112 * math.exp(17.62 * celsius / (243.12 + celsius))

    reports = [json.loads(data) for data in results["many-sources"].values()]
    complete = [report for report in reports if "dew" in report]
    assert len(complete) == 5
    for report in complete:
        assert saturated(report["dew"]) == pytest.approx(
            saturated(report["celsius"]) * report["percent"] / 100, rel=1e-3
        )
        assert 10 < report["celsius"] < 20, "the failing value is left out"


# --- C -------------------------------------------------------------------------------------------------------


def test_the_c_programs_count_what_python_counts(results) -> None:
    for sample in (APPS / "c-tasks" / "samples").iterdir():
        data = sample.read_bytes()
        report = json.loads(results["c-tasks"][f"{sample.name}/report/report.json"])
        shares = [count / len(data) for count in Counter(data).values()]
        assert report["bytes"] == len(data)
        assert report["entropy"] == pytest.approx(-sum(p * math.log2(p) for p in shares), abs=6e-5)
        runs = [(len(list(group)), byte) for byte, group in itertools.groupby(data)]
        longest = max((length for length, _ in runs), default=0)
        first = next((byte for length, byte in runs if length == longest), None)
        assert report.get("run") == ({"byte": first, "length": longest} if data else None)


# --- images --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures():
    sys.path.insert(0, str(APPS / "images"))
    try:
        import pictures
    finally:
        sys.path.remove(str(APPS / "images"))
        sys.modules.pop("pictures", None)
    return pictures


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4])
def test_every_filter_of_png_is_undone(pictures, kind: int, channels: int) -> None:
    picture = np.random.default_rng(kind).integers(0, 256, (5, 7, channels)).astype(int)
    rows = b"".join(bytes([kind]) + filtered(picture, y, kind) for y in range(5))
    data = pictures.write_png(np.zeros((5, 7), np.uint8))
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = data[16:24] + bytes([8, colour, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    made = b"".join(len(b).to_bytes(4) + k + b + zlib.crc32(k + b).to_bytes(4) for k, b in chunks)
    assert (pictures.read_png(data[:8] + made) == picture).all()


def filtered(picture: np.ndarray, y: int, kind: int) -> bytes:
    """One row under a filter, from the specification's formulas, pixel by pixel."""
    line = bytearray()
    for x, c in np.ndindex(picture.shape[1:]):
        a = picture[y, x - 1, c] if x else 0
        b = picture[y - 1, x, c] if y else 0
        corner = picture[y - 1, x - 1, c] if x and y else 0
        p = a + b - corner
        near = min((a, b, corner), key=lambda v: abs(p - v))
        line.append((picture[y, x, c] - (0, a, b, (a + b) // 2, near)[kind]) % 256)
    return bytes(line)


def test_a_picture_that_is_none_is_refused(pictures) -> None:
    good = pictures.write_png(np.zeros((2, 2), np.uint8))
    for bad in (b"", b"GIF89a", good[:40] + b"x" + good[41:]):
        with pytest.raises(ValueError, match=r"not a PNG|damaged"):
            pictures.read_png(bad)


def test_numbers_about_a_picture_agree_with_counting_pixel_by_pixel(results, pictures) -> None:
    for name in ("cell", "clock-motion"):
        grey = pictures.read_png((APPS / f"images/samples/{name}.png").read_bytes())[:, :, 0].astype(int)
        report = json.loads(results["images"][f"{name}.png/report/report"])
        assert (report["shapes"]["threshold"], report["texture"]["flat"]) == (best_level(grey), flat_tiles(grey))
        sizes = [size for size in flooded(grey > report["shapes"]["threshold"]) if size >= 40]
        assert (report["shapes"]["regions"], report["shapes"]["largest"]) == (len(sizes), max(sizes))
        pgm = results["images"][f"{name}.png/edges/edges.pgm"]
        assert pgm[:15] == b"P5\n256 256\n255\n"
        assert np.array_equal(np.frombuffer(pgm[15:], np.uint8).reshape(256, 256), sobel(grey))


def best_level(grey: np.ndarray) -> int:
    """Otsu's criterion straight from its definition."""

    def between(level: int) -> float:
        low, high = grey[grey <= level], grey[grey > level]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else -1.0

    return max(range(255), key=between)


def flat_tiles(grey: np.ndarray) -> int:
    tiles = (grey[y : y + 16, x : x + 16] for y in range(0, 256, 16) for x in range(0, 256, 16))
    return sum(math.floor(tile.var() + 1e-9) < 25 for tile in tiles)


def flooded(mask: np.ndarray) -> list[int]:
    left, sizes = {tuple(at) for at in np.argwhere(mask).tolist()}, []
    while left:
        waiting, size = [left.pop()], 0
        while waiting:
            y, x = waiting.pop()
            size += 1
            for at in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if at in left:
                    left.remove(at)
                    waiting.append(at)
        sizes.append(size)
    return sizes


def sobel(grey: np.ndarray) -> np.ndarray:
    kernel = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
    p = np.pad(grey, 1, mode="edge")
    dx = sum(kernel[j][i] * p[j : j + 256, i : i + 256] for j in range(3) for i in range(3))
    dy = sum(kernel[i][j] * p[j : j + 256, i : i + 256] for j in range(3) for i in range(3))
    return np.minimum((np.abs(dx) + np.abs(dy)) // 4, 255).astype(np.uint8)
