"""The commands of `tubeletx-train`, one module each; its `main` takes the arguments and returns the exit code."""
