"""The compiled operators, one file each; shapes, dtypes and errors stand in their docstrings."""
