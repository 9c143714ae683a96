"""Make samples/ again from the wheel of scikit-image 0.26.0: python prepare_data.py WHEEL [--check]. Offline."""

import sys
import zipfile
from pathlib import Path

from pictures import read_png, write_png

SAMPLES = Path(__file__).parent / "samples"
WINDOWS = {
    "brick": (128, 128, 256, 256),
    "camera": (40, 120, 256, 256),
    "cell": (200, 120, 256, 256),
    "clock_motion": (22, 72, 256, 256),
    "grass": (128, 128, 256, 256),
    "gravel": (128, 128, 256, 256),
}
"""Picture -> row, column, rows and columns of the window that is kept."""


def main():
    check = "--check" in sys.argv
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        for name, (row, column, rows, columns) in WINDOWS.items():
            grey = read_png(wheel.read(f"skimage/data/{name}.png"))[:, :, 0]
            window = grey[row : row + rows, column : column + columns]
            assert window.shape == (rows, columns), (name, grey.shape)
            target = SAMPLES / f"{name.replace('_', '-')}.png"
            if check:
                assert (read_png(target.read_bytes())[:, :, 0] == window).all(), name
            else:
                target.write_bytes(write_png(window))
    print("the same pixels" if check else f"{len(WINDOWS)} pictures written")


if __name__ == "__main__":
    main()
