"""Random jobs under random faults, in virtual time: what the executor promises, judged by an oracle that knows all.

`scenario` draws what happens, `apps` makes tasks that say in their bytes which runs they stem from, `world` is the
cluster with its faults, `oracle` says what must hold in the end, `run` plays one seed and shrinks it when it fails.
"""
