"""Words of a text in lower case, one a line. The name up to the first _ (else .) says which item a file belongs to."""

import os
import re


def task(onefile, pathin, pathout):
    with open(os.path.join(pathin, onefile)) as file:
        words = re.findall("[a-z]+", file.read().lower())
    out = os.path.join(pathout, onefile.split(".")[0].split("_")[0] + "_words")
    with open(out, "w") as file:
        file.write("\n".join(words))
    return [out]
