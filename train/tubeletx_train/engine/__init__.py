"""Parts of a training run that know nothing of what is trained: checkpoints, signals, logs, schedule, seeds."""
