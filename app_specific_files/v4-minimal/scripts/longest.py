"""The longest word, the first of them by the alphabet."""

import os


def task(onefile, pathin, pathout):
    with open(os.path.join(pathin, onefile)) as file:
        words = file.read().split()
    out = os.path.join(pathout, onefile.split("_")[0] + "_longest")
    with open(out, "w") as file:
        file.write(max(sorted(words), key=len, default=""))
    return [out]
