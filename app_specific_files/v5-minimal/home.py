"""Home's script: sees every result. It could make items, too: files named home_<child>_<item> in pathout."""

import os


def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        with open(os.path.join(pathin, name)) as result:
            print(f"{name}: {result.read()}", flush=True)
        q.task_done()
