"""The sites' sums, one line each and one for all, in the currency of the file that is named."""

import os
import pathlib
import sys

currency = pathlib.Path(sys.argv[1]).read_text().strip()
lines = sorted(path.read_text().strip() for path in pathlib.Path(os.environ["JUPITER_IN"]).glob("*/*"))
total = sum(int(line.split()[1]) for line in lines)
out = pathlib.Path(os.environ["JUPITER_OUT"], "balance.txt")
out.write_text("".join(f"{line} {currency}\n" for line in [*lines, f"all {total}"]))
