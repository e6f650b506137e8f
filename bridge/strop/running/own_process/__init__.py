"""A simulator in a process of its own: `ProcessRunner` here, `served` in that process, `messages` between them.

Used where the simulator in this process is occupied (PyNN), and by `strop.running.side_by_side` to keep more than one
core busy. The other process is a new Python, not a child that `multiprocessing` spawns: that would run the user's
script again, unless `if __name__ == "__main__"` guards it.
"""

from strop.running.own_process.runner import ProcessRunner

__all__ = ["ProcessRunner"]
