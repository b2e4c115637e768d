"""The commands of `tubeletx-train`: one module each, whose `main` takes the arguments and returns the exit code.

`reporting` is no command but what several of them say.
"""
