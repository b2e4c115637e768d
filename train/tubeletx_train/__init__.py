"""tubeletx_train: pretraining, evaluation and pictures on top of tubeletx."""
