"""Fine-tuning of an encoder with labels: recognition, and several labels a video."""
