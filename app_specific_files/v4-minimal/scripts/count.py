"""How many words there are."""

import os


def task(onefile, pathin, pathout):
    with open(os.path.join(pathin, onefile)) as file:
        words = file.read().split()
    out = os.path.join(pathout, onefile.split("_")[0] + "_count")
    with open(out, "w") as file:
        file.write(str(len(words)))
    return [out]
