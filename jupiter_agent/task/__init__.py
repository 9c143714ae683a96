"""What runs inside a task process: reads frames from the agent, calls user code, answers. Imports nothing else of ours.

Start-up time counts (an agent may start ten of these at once on two slow cores), so the modules here avoid what is slow
to import: no pathlib, threading, socket, logging or traceback before they are needed.
"""
