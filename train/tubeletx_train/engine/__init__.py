"""The training loop and its parts; knows no task and no data set."""
