"""The join: NUM_INPUTS is 2, so it gets a list of the two files of an item, in the order of their arrival."""

import json
import os


def task(files, pathin, pathout):
    texts = {}
    for name in files:
        with open(os.path.join(pathin, name)) as file:
            texts[name.split("_")[1]] = file.read()
    out = os.path.join(pathout, files[0].split("_")[0] + "_report")
    with open(out, "w") as file:
        json.dump({"words": int(texts["count"]), "longest": texts["longest"]}, file)
    return [out]
